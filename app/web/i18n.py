"""Words: in which language something is said, and how times are said in it.

A page speaks the language that was chosen on it (`?language=de`, kept in a cookie), or else what the browser
asks for. A mail speaks the account's language, or else that of whoever asked for it. The code says everything
in English; other languages stand in app/web/translations/<language>.po, Flask-Security brings its own words,
and an admin's RECOVERY_TRANSLATION_DIR goes before both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from urllib.parse import urlencode

from babel import Locale
from babel.lists import format_list
from babel.support import NullTranslations, Translations
from babel.units import format_unit
from flask import Flask, Request, Response, current_app, has_request_context, request
from flask_babel import force_locale, format_date, format_datetime, get_locale
from jinja2.utils import urlize
from markupsafe import Markup
from wtforms.i18n import messages_path

from ..settings import current
from ..settings.schema import Settings
from .catalogues import CatalogueBabel, Catalogues

CHOICE = "language"  # the query parameter
COOKIE_SECONDS = 365 * 86_400
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def N_(text: str) -> str:  # noqa: N802  # gettext's own name for it
    """Marks a text that is translated later, where it is said."""
    return text


@dataclass(frozen=True)
class Language:
    """One that is offered."""

    name: str  # as in RECOVERY_LANGUAGES: de, pt_BR

    @property
    def locale(self) -> Locale:
        return _locale(self.name)

    @property
    def tag(self) -> str:
        """As HTML says it."""
        return self.name.replace("_", "-")

    @property
    def direction(self) -> str:
        return self.locale.text_direction

    @property
    def title(self) -> str:
        """As its speakers call it."""
        title = self.locale.get_display_name() or self.name
        return title[:1].upper() + title[1:]

    @property
    def href(self) -> str:
        """This very page in it."""
        return "?" + urlencode({**request.args.to_dict(), CHOICE: self.name})


@cache  # languages are few
def _locale(name: str) -> Locale:
    return Locale.parse(name)


def init_app(app: Flask, settings: Settings) -> None:
    app.extensions["recovery_words"] = Catalogues(settings)
    app.request_class = _Request
    CatalogueBabel(app, locale_selector=_language_of_the_request)
    app.jinja_env.policies["ext.i18n.trimmed"] = True  # a text may be wrapped where it stands
    app.jinja_env.globals.update(language=spoken, languages=switch)
    app.jinja_env.filters.update(duration=duration, moment=moment, day=day, contact=contact)
    app.after_request(_remember_choice)


class _Request(Request):
    @property
    def wtforms_translations(self) -> NullTranslations:
        """The words of WTForms. Flask-WTF looks here before it reads them from the disk, for each request."""
        return _of_wtforms(spoken().name)


@cache
def _of_wtforms(language: str) -> NullTranslations:
    return Translations.load(messages_path(), [language], domain="wtforms")


def spoken() -> Language:
    """What is spoken right now."""
    locale = get_locale()
    return Language(str(locale) if locale else current().BABEL_DEFAULT_LOCALE)


def speaking(language: str | None) -> AbstractContextManager[None]:
    """Within this, it is spoken; None, and one that is offered no longer, leave the default."""
    is_offered = language in current().RECOVERY_LANGUAGES
    within: AbstractContextManager[None] = force_locale(
        language if is_offered else current().BABEL_DEFAULT_LOCALE
    )
    return within


def switch() -> Iterator[Language]:
    """What this page can be had in; nothing where there is no choice, or a POST's answer would be lost."""
    names = current().RECOVERY_LANGUAGES
    if len(names) > 1 and request.method == "GET":
        yield from map(Language, names)


def duration(span: timedelta) -> str:
    """1 hour and 30 minutes; no more exact than a second."""
    return _duration(round(span.total_seconds()), spoken().locale)


@lru_cache(maxsize=100)  # settings are few
def _duration(rest: int, locale: Locale) -> str:
    parts: list[str] = []
    for unit, seconds in UNITS:
        number, rest = divmod(rest, seconds)
        if number or (unit == "second" and not parts):
            parts.append(format_unit(number, f"duration-{unit}", locale=locale))
    return format_list(parts, locale=locale)


def moment(when: datetime) -> str:
    """28 February 2026, 14:05:00 UTC: in BABEL_DEFAULT_TIMEZONE, and it says so."""
    return str(format_datetime(when, "long"))


def contact(text: str) -> Markup:
    """An address, a number or a URL, as a link where it can be one. It keeps its own direction."""
    return Markup('<span dir="auto">{}</span>').format(Markup(urlize(text)))  # noqa: S704  # which escapes


def day(moment_: str) -> str:
    """28 February 2026, of a moment as ISO 8601."""
    return str(format_date(datetime.fromisoformat(moment_), "long"))


def _language_of_the_request() -> str:
    """What was chosen, or else the first that the browser asks for and we have."""
    settings = current()
    if not has_request_context():
        return settings.BABEL_DEFAULT_LOCALE
    names = settings.RECOVERY_LANGUAGES
    for chosen in (
        request.args.get(CHOICE),
        request.cookies.get(current_app.config["RECOVERY_LANGUAGE_COOKIE"]),
    ):
        if chosen in names:
            return chosen
    there = _tags(tuple(names))
    for tag in (tag for tag, weight in request.accept_languages if weight):  # the dearest first
        for wanted in (tag.lower(), tag.lower().partition("-")[0]):  # de-AT is content with de
            if wanted in there:
                return there[wanted]
    return settings.BABEL_DEFAULT_LOCALE


@cache
def _tags(names: tuple[str, ...]) -> dict[str, str]:
    """What browsers call these. They leave scripts out, and another country's is better than none."""
    there = {Language(name).tag.lower(): name for name in names}
    for name in names:
        locale = Language(name).locale
        for tag in (f"{locale.language}-{locale.territory}", locale.language):
            there.setdefault(tag.lower(), name)
    return there


def _remember_choice(response: Response) -> Response:
    chosen = request.args.get(CHOICE)
    if chosen in current().RECOVERY_LANGUAGES and response.mimetype == "text/html":
        response.set_cookie(
            current_app.config["RECOVERY_LANGUAGE_COOKIE"],
            chosen,
            max_age=COOKIE_SECONDS,
            secure=current_app.config["SESSION_COOKIE_SECURE"],
            httponly=True,
            samesite="Lax",
        )
    return response
