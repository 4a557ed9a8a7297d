"""Checks of an admin's translations: can each be read and filled in, and is any missing or unused?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from babel import UnknownLocaleError
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import PoFileError, read_po

from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.sources import TRANSLATIONS
from ..web import catalogues
from ..web.catalogues import OF_FLASK_SECURITY
from ..web.templates import SUFFIXES

INVALID_FILE = (OSError, PoFileError, UnknownLocaleError, ValueError, LookupError)
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]")


@check
def of_own_words() -> Iterator[Finding]:
    """Check the admin's files, if there are any. Tests check the shipped ones."""
    if folder := current().RECOVERY_TRANSLATION_DIR:
        for path in sorted(Path(folder).glob("*.po")):
            try:
                catalog = read(path)
                catalogues.read(path)  # reads the rule for plural forms
            except INVALID_FILE as error:
                yield KINDS["translation-unreadable"].found(
                    where=str(path), said=" ".join(str(error).split())
                )
            else:
                yield from _of_catalog(catalog, path)


def _of_catalog(catalog: Catalog, path: Path) -> Iterator[Finding]:
    for message in catalog:
        if problem := why_broken(message):
            yield KINDS["translation-broken"].found(where=str(path), text=_forms(message.id)[0], said=problem)
    pot, translated = texts_in(TRANSLATIONS / "messages.pot"), _translated(catalog)
    if path.stem in current().RECOVERY_LANGUAGES and path.stem != "en":
        shipped = TRANSLATIONS / path.name
        missing = pot - translated - (_translated(read(shipped)) if shipped.is_file() else set())
        if missing:
            yield KINDS["translation-missing"].found(
                where=str(path), count=len(missing), all=len(pot), some=_some(missing)
            )
    flask_security = texts_in(OF_FLASK_SECURITY / "flask_security.pot")
    if unused := translated - pot - flask_security - _texts_of_templates():
        yield KINDS["translation-unused"].found(where=str(path), some=_some(unused))


def read(path: Path) -> Catalog:
    """Parse a .po or .pot file. Raises any error of INVALID_FILE."""
    language = None if path.suffix == ".pot" else path.stem
    with path.open("rb") as file:
        return read_po(file, locale=language, abort_invalid=True)


def is_translated(message: Message) -> bool:
    """True if gettext uses it, which passes over a fuzzy translation."""
    return bool(message.id) and all(_forms(message.string)) and not message.fuzzy


def why_broken(message: Message) -> str | None:
    """Return why a translation cannot be filled in; None if it can."""
    if not message.id or message.fuzzy:
        return None
    original = "".join(_forms(message.id))
    # Babel's Message.check() looks only at texts with placeholders, and passes over an unfinished "%(site)".
    for text in _forms(message.string):
        rest = text.replace("%%", "")
        if unknown := set(_PLACEHOLDER.findall(rest)).difference(_PLACEHOLDER.findall(original)):
            return f"there is no {min(unknown)}"
        if "%" in _PLACEHOLDER.sub("", rest):
            return "a percent sign stands alone"
        if "\n" in text and "\n" not in original:
            return "a line ends within it"
        if {*'"<>'} & set(text) - set(original):
            return 'it holds ", < or >, which HTML reads as its own: write “ and ”'
    return None


def texts_in(path: Path) -> set[str]:
    """Return the texts that a file translates."""
    return {_forms(message.id)[0] for message in read(path) if message.id}  # the header has no id


def _translated(catalog: Catalog) -> set[str]:
    return {_forms(message.id)[0] for message in catalog if is_translated(message)}


def _texts_of_templates() -> set[str]:
    """Return the texts in the admin's own templates."""
    if not (folder := current().RECOVERY_TEMPLATE_DIR):
        return set()
    methods = [(f"**{ending}", "jinja2") for ending in SUFFIXES]
    try:
        found = list(extract_from_dir(folder, methods, {"**": {"trimmed": "true"}}))
    except UnicodeDecodeError:  # the checks of templates report it
        return set()
    return {_forms(text)[0] for _, _, text, *_ in found}


def _forms(text: str | Iterable[str] | None) -> list[str]:
    """Return singular and plural, or the one text."""
    return [text or ""] if text is None or isinstance(text, str) else list(text)


def _some(texts: set[str]) -> str:
    shown = [f"“{text[:60]}{'…' if len(text) > 60 else ''}”" for text in sorted(texts)[:3]]
    return ", ".join(shown) + (" …" if len(texts) > len(shown) else "")
