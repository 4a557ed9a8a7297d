"""Checks of an admin's translations: can each be read and filled in, and is any missing or unused?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from babel import UnknownLocaleError

from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.sources import TRANSLATIONS
from ..web import catalogues
from ..web.catalogues import OF_FLASK_SECURITY
from ..web.templates import SUFFIXES

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog, Message

_PLACEHOLDER = re.compile(r"%\((\w+)\)(\w)")
_LONE_PERCENT = re.compile(r"(?<!%)(?:%%)*%(?![(%])")


@check
def of_own_words() -> Iterator[Finding]:
    """Check the admin's files, if there are any. Tests check the shipped ones."""
    if folder := current().RECOVERY_TRANSLATION_DIR:
        for path in sorted(Path(folder).glob("*.po")):
            yield from _of_file(path)


def _of_file(path: Path) -> Iterator[Finding]:
    try:
        catalogue = read(path)
        catalogues.read(path)  # reads the rule for plural forms
    except (ValueError, LookupError) as error:  # an unknown encoding or language
        yield KINDS["translation-unreadable"].found(where=str(path), said=" ".join(str(error).split()))
        return
    for message in catalogue:
        if problem := why_broken(message):
            yield KINDS["translation-broken"].found(where=str(path), text=_text(message), said=problem)
    pot, shipped = texts_in(TRANSLATIONS / "messages.pot"), TRANSLATIONS / path.name
    translated = _translated(catalogue)
    if path.stem in current().RECOVERY_LANGUAGES and path.stem != "en":
        missing = pot - translated - (_translated(read(shipped)) if shipped.is_file() else set())
        if missing:
            yield KINDS["translation-missing"].found(
                where=str(path), count=len(missing), all=len(pot), some=_some(missing)
            )
    if (
        unused := translated
        - pot
        - texts_in(OF_FLASK_SECURITY / "flask_security.pot")
        - _texts_of_templates()
    ):
        yield KINDS["translation-unused"].found(where=str(path), some=_some(unused))


def read(path: Path) -> Catalog:
    """Parse a .po or .pot file. Raises ValueError."""
    from babel.messages import pofile  # takes 30 ms, and few starts need it

    language = None if path.suffix == ".pot" else path.stem
    try:
        with path.open("rb") as file:
            return pofile.read_po(file, locale=language, abort_invalid=True)
    except (OSError, pofile.PoFileError, UnknownLocaleError) as error:
        raise ValueError(str(error)) from None


def is_translated(message: Message) -> bool:
    """True if gettext uses it, which passes over a fuzzy translation."""
    return bool(message.id) and all(_forms(message.string)) and not message.fuzzy


def why_broken(message: Message) -> str | None:
    """Return why a translation cannot be filled in; None if it can."""
    if not message.id or message.fuzzy:
        return None
    # Interpolated as a page does it: Message.check() passes over an unfinished placeholder such as "%(site)".
    original = "".join(_forms(message.id))
    values = {name: 1 if kind == "d" else "1" for name, kind in _PLACEHOLDER.findall(original)}
    for text in _forms(message.string):
        if _LONE_PERCENT.search(text):
            return "a percent sign stands alone"
        if "\n" in text and "\n" not in original:
            return "a line ends within it"
        if {*'"<>'} & set(text) - set(original):
            return 'it holds ", < or >, which HTML reads as its own: write “ and ”'
        try:
            text % values
        except KeyError as error:
            return f"there is no {error.args[0]}"
        except (TypeError, ValueError) as error:
            return str(error)
    return None


def texts_in(path: Path) -> set[str]:
    """Return the texts that a file translates."""
    return {_text(message) for message in read(path) if message.id}  # the header has no id


def _translated(catalogue: Catalog) -> set[str]:
    return {_text(message) for message in catalogue if is_translated(message)}


def _texts_of_templates() -> set[str]:
    """Return the texts in the admin's own templates."""
    from babel.messages import extract  # as above

    if not (folder := current().RECOVERY_TEMPLATE_DIR):
        return set()
    methods = [(f"**{ending}", "jinja2") for ending in SUFFIXES]
    try:
        found = list(extract.extract_from_dir(folder, methods, {"**": {"trimmed": "true"}}))
    except UnicodeDecodeError:  # the checks of templates report it
        return set()
    return {_forms(text)[0] for _, _, text, *_ in found}


def _forms(text: str | Iterable[str] | None) -> list[str]:
    """Return singular and plural, or the one text."""
    return [text or ""] if text is None or isinstance(text, str) else list(text)


def _text(message: Message) -> str:
    return _forms(message.id)[0]


def _some(texts: set[str]) -> str:
    shown = [f"“{text[:60]}{'…' if len(text) > 60 else ''}”" for text in sorted(texts)[:3]]
    return ", ".join(shown) + (" …" if len(texts) > len(shown) else "")
