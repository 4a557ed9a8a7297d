"""Languages of pages and mails: their texts, and their formats of times and durations.

A page uses the language chosen on it (`?language=de`, kept in a cookie), or else the first offered one that
the browser accepts. A mail uses the account's language, or else the requester's.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache, partial
from pathlib import Path
from urllib.parse import urlencode

import flask_security
from babel import Locale, negotiate_locale
from babel.lists import format_list
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from babel.units import format_unit
from flask import Flask, Response, current_app, has_request_context, request
from flask_babel import Babel, Domain, force_locale, format_date, format_datetime, get_locale
from flask_security.babel import FsDomain
from jinja2.utils import urlize
from markupsafe import Markup

from ..settings import current
from ..settings.schema import Settings
from ..settings.sources import TRANSLATIONS
from .responses import form_page, keep_cookie

FLASK_SECURITY_TRANSLATIONS = Path(flask_security.__file__).parent / "translations"
LANGUAGE_PARAMETER = "language"
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
# Returns a text such as: 28 February 2026, 14:05:00 UTC. The zone is BABEL_DEFAULT_TIMEZONE.
moment = partial(format_datetime, format="long")


class Catalogs(FsDomain):
    """The texts of every language.

    Flask-Babel's own domain reads compiled files only, and does not find Flask-Security's de_DE for de.
    """

    def __init__(self, *folders: Path) -> None:
        """Read .po files. An earlier folder overrides a later one, and each overrides Flask-Security."""
        Domain.__init__(self)
        self.folders = folders

    def get_translations(self) -> Translations:
        """Return the texts of the current language, read once."""
        name = str(get_locale())
        if name not in self.cache:
            texts = Translations()
            for path in (folder / f"{name}.po" for folder in self.folders):
                if path.is_file():
                    texts.add_fallback(compile_po(path))
            # For a language without a country, take Flask-Security's texts of any country.
            compiled = FLASK_SECURITY_TRANSLATIONS.glob(f"{name}*/LC_MESSAGES/flask_security.mo")
            for path in sorted(compiled)[:1]:
                with path.open("rb") as file:
                    texts.add_fallback(Translations(file))
            self.cache[name] = texts
        cached: Translations = self.cache[name]
        return cached


def compile_po(path: Path) -> Translations:
    """Compile a language's .po file, such as de.po. Raises as read_catalog()."""
    compiled = io.BytesIO()
    write_mo(compiled, read_catalog(path))
    compiled.seek(0)
    return Translations(compiled)


def read_catalog(path: Path) -> Catalog:
    """Parse a .po or .pot file. Raises PoFileError, ValueError, LookupError or OSError."""
    language = None if path.suffix == ".pot" else path.stem
    with path.open("rb") as file:
        catalog = read_po(file, locale=language, abort_invalid=True)
    for message in catalog:
        if isinstance(message.string, tuple):
            # messages.pot has two plural forms, and CLDR may have more: Italian has one for millions.
            written = max((index for index, form in enumerate(message.string) if form), default=0) + 1
            last = message.string[written - 1 :][:1] * (len(message.string) - written)
            message.string = message.string[:written] + last if written > 1 else message.string
    return catalog


def N_(text: str) -> str:  # noqa: N802  # gettext's own name for it
    """Mark a text for extraction. It is translated when it is rendered."""
    return text


def init_app(app: Flask, settings: Settings) -> None:
    """Set up Flask-Babel and the globals and filters of templates."""
    own = settings.RECOVERY_TRANSLATION_DIR
    babel = Babel(app, locale_selector=partial(_select_language, settings))
    babel.domain_instance = Catalogs(*([Path(own)] if own else []), TRANSLATIONS)
    app.jinja_env.policies["ext.i18n.trimmed"] = True  # templates may wrap texts
    app.jinja_env.globals.update(language=get_locale, languages=offered_languages, language_url=language_url)
    filters = {"language_tag": language_tag, "autonym": autonym, "contact": contact}
    app.jinja_env.filters.update(filters, duration=duration, moment=moment, day=day)

    @app.after_request
    def remember_choice(response: Response) -> Response:
        choice = request.args.get(LANGUAGE_PARAMETER)
        if choice in settings.RECOVERY_LANGUAGES and response.mimetype == "text/html":
            keep_cookie(app.config["RECOVERY_LANGUAGE_COOKIE"], choice, response)
        return response


@contextmanager
def use_language(*languages: str | None) -> Iterator[None]:
    """Use the first of these languages that is offered within this context, or else the default."""
    settings = current()
    offered = (language for language in languages if language in settings.RECOVERY_LANGUAGES)
    with force_locale(next(offered, settings.BABEL_DEFAULT_LOCALE)):
        yield


def offered_languages() -> Iterator[Locale]:
    """Yield the languages to choose from: none if there is one."""
    names = current().RECOVERY_LANGUAGES
    if len(names) > 1:
        yield from map(Locale.parse, names)


def language_url(locale: Locale) -> str:
    """Return the URL of this page in a language. From an answer to a POST, it leads to the form's page."""
    path = form_page() if request.form or request.method == "POST" else request.path
    args = request.args.to_dict() if path == request.path else {}
    page = "" if path == request.path else request.script_root + (path or "/")
    return f"{page}?{urlencode({**args, LANGUAGE_PARAMETER: str(locale)})}"


def language_tag(locale: Locale) -> str:
    """Return the tag that HTML and browsers use, such as pt-BR."""
    return str(locale).replace("_", "-")


def autonym(locale: Locale) -> str:
    """Return a language's name in the language itself."""
    name = locale.display_name or str(locale)
    return name[:1].upper() + name[1:]


def duration(span: timedelta) -> str:
    """Return a text such as: 1 hour and 30 minutes."""
    locale, rest = get_locale(), round(span.total_seconds())
    parts: list[str] = []
    for unit, seconds in UNITS:
        number, rest = divmod(rest, seconds)
        if number or (unit == "second" and not parts):
            parts.append(format_unit(number, f"duration-{unit}", locale=locale))
    return format_list(parts, locale=locale)


def day(iso_8601: str) -> str:
    """Return a text such as: 28 February 2026."""
    return str(format_date(datetime.fromisoformat(iso_8601), "long"))


def contact(text: str) -> Markup:
    """Return a contact with a text direction of its own, linked if it is a URL or an email address."""
    return Markup('<span dir="auto">{}</span>').format(Markup(urlize(text)))  # noqa: S704  # urlize escapes


def _select_language(settings: Settings) -> str:
    """Return the chosen language, or else the first accepted one that is offered, or else the default."""
    if not has_request_context():
        return settings.BABEL_DEFAULT_LOCALE
    cookie = request.cookies.get(current_app.config["RECOVERY_LANGUAGE_COOKIE"])
    for choice in (request.args.get(LANGUAGE_PARAMETER), cookie):
        if choice in settings.RECOVERY_LANGUAGES:
            return choice
    names = _names_by_tag(*settings.RECOVERY_LANGUAGES)
    accepted = [tag for tag, quality in request.accept_languages if quality]  # by preference
    tag = negotiate_locale(accepted, names, sep="-", aliases={})
    return names[tag.lower()] if tag else settings.BABEL_DEFAULT_LOCALE


@cache
def _names_by_tag(*names: str) -> dict[str, str]:
    """Map language tags to offered languages. Browsers omit scripts, and any country's variant will do."""
    by_tag = {name.replace("_", "-").lower(): name for name in names}
    for name in names:
        locale = Locale.parse(name)
        by_tag.setdefault(f"{locale.language}-{locale.territory}".lower(), name)
        by_tag.setdefault(locale.language, name)
    return by_tag
