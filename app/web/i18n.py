"""Languages of pages and mails, and how times are written in them.

A page is in the language that was chosen on it (`?language=de`, kept in a cookie), or else in the first one
that the browser accepts. A mail is in the account's language, or else in the requester's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from babel import Locale, negotiate_locale
from babel.lists import format_list
from babel.units import format_unit
from flask import Flask, Response, current_app, has_request_context, request
from flask_babel import Babel, force_locale, format_date, format_datetime, get_locale
from jinja2.utils import urlize
from markupsafe import Markup

from ..settings import current
from ..settings.schema import Settings
from ..settings.sources import TRANSLATIONS
from .catalogues import Catalogues

CHOICE = "language"  # the query parameter
COOKIE_SECONDS = 365 * 86_400
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def N_(text: str) -> str:  # noqa: N802  # gettext's own name for it
    """Mark a text that is translated where it is shown."""
    return text


@dataclass(frozen=True)
class Language:
    """A language that is offered."""

    name: str  # as in RECOVERY_LANGUAGES: de, pt_BR

    @property
    def locale(self) -> Locale:
        return Locale.parse(self.name)

    @property
    def tag(self) -> str:
        """Its name in HTML."""
        return self.name.replace("_", "-")

    @property
    def direction(self) -> str:
        return self.locale.text_direction

    @property
    def title(self) -> str:
        """Its name in the language itself."""
        title = self.locale.get_display_name() or self.name
        return title[:1].upper() + title[1:]

    @property
    def href(self) -> str:
        """This page in it."""
        return "?" + urlencode({**request.args.to_dict(), CHOICE: self.name})


def init_app(app: Flask, settings: Settings) -> None:
    own = settings.RECOVERY_TRANSLATION_DIR
    babel = Babel(app, locale_selector=_select_language)
    babel.domain_instance = Catalogues(*([Path(own)] if own else []), TRANSLATIONS)
    app.jinja_env.policies["ext.i18n.trimmed"] = True  # a template may wrap a text
    app.jinja_env.globals.update(language=spoken, languages=switch)
    app.jinja_env.filters.update(duration=duration, moment=moment, day=day, contact=contact)

    @app.after_request
    def remember_choice(response: Response) -> Response:
        choice = request.args.get(CHOICE)
        if choice in settings.RECOVERY_LANGUAGES and response.mimetype == "text/html":
            response.set_cookie(
                app.config["RECOVERY_LANGUAGE_COOKIE"],
                choice,
                max_age=COOKIE_SECONDS,
                secure=app.config["SESSION_COOKIE_SECURE"],
                httponly=True,
                samesite="Lax",
            )
        return response


def spoken() -> Language:
    """Return the current language."""
    return Language(str(get_locale()))


@contextmanager
def speaking(language: str | None) -> Iterator[None]:
    """Switch to a language within this context; to the default for None and for one no longer offered."""
    settings = current()
    with force_locale(language if language in settings.RECOVERY_LANGUAGES else settings.BABEL_DEFAULT_LOCALE):
        yield


def switch() -> Iterator[Language]:
    """Yield the languages that this page offers; none if a POST made it, because its answer would be lost."""
    names = current().RECOVERY_LANGUAGES
    if len(names) > 1 and request.method == "GET":
        yield from map(Language, names)


def duration(span: timedelta) -> str:
    """Return a text such as: 1 hour and 30 minutes."""
    locale, rest = get_locale(), round(span.total_seconds())
    parts: list[str] = []
    for unit, seconds in UNITS:
        number, rest = divmod(rest, seconds)
        if number or (unit == "second" and not parts):
            parts.append(format_unit(number, f"duration-{unit}", locale=locale))
    return format_list(parts, locale=locale)


def moment(when: datetime) -> str:
    """Return a text such as: 28 February 2026, 14:05:00 UTC (the zone is BABEL_DEFAULT_TIMEZONE)."""
    return str(format_datetime(when, "long"))


def day(iso_8601: str) -> str:
    """Return a text such as: 28 February 2026."""
    return str(format_date(datetime.fromisoformat(iso_8601), "long"))


def contact(text: str) -> Markup:
    """Return an address, a number or a URL in its own direction, as a link if it can be one."""
    return Markup('<span dir="auto">{}</span>').format(Markup(urlize(text)))  # noqa: S704  # urlize escapes


def _select_language() -> str:
    """Return the language that was chosen, or else the first accepted one that is offered."""
    settings = current()
    if not has_request_context():
        return settings.BABEL_DEFAULT_LOCALE
    cookie = request.cookies.get(current_app.config["RECOVERY_LANGUAGE_COOKIE"])
    for choice in (request.args.get(CHOICE), cookie):
        if choice in settings.RECOVERY_LANGUAGES:
            return choice
    names = _names_by_tag(*settings.RECOVERY_LANGUAGES)
    accepted = [tag for tag, quality in request.accept_languages if quality]  # the preferred first
    tag = negotiate_locale(accepted, names, sep="-", aliases={})
    return names[tag.lower()] if tag else settings.BABEL_DEFAULT_LOCALE


@cache
def _names_by_tag(*names: str) -> dict[str, str]:
    """Map browsers' tags, which leave out scripts, to languages. Another country's is better than none."""
    by_tag = {Language(name).tag.lower(): name for name in names}
    for name in names:
        locale = Locale.parse(name)
        by_tag.setdefault(f"{locale.language}-{locale.territory}".lower(), name)
        by_tag.setdefault(locale.language, name)
    return by_tag
