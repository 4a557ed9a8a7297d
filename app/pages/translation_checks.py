"""Checks of an admin's translations: unreadable files, and broken or missing texts."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from babel import UnknownLocaleError, localedata
from babel.messages.catalog import Catalog, Message
from babel.messages.pofile import PoFileError

from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.sources import TRANSLATIONS
from ..web.i18n import compile_po, read_catalog

INVALID_FILE = (OSError, PoFileError, UnknownLocaleError, ValueError, LookupError)
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]")
_COMMENT_OR_QUOTED = re.compile(r'(#.*|[^"]*"([^\\]|\\.)*")?')


@check
def check_translations() -> Iterator[Finding]:
    """Check the files in RECOVERY_TRANSLATION_DIR. Tests check the shipped ones."""
    if folder := current().RECOVERY_TRANSLATION_DIR:
        for path in sorted(Path(folder).glob("*.po")):
            if path.stem not in localedata.locale_identifiers():
                yield KINDS["translation-of-none"].found(where=str(path), name=path.stem)
                continue
            try:
                _check_quotation_marks(path)
                catalog = read_catalog(path)
                compile_po(path)  # also evaluates the rule for plural forms
            except INVALID_FILE as error:
                problem = " ".join(str(error).split())
                yield KINDS["translation-unreadable"].found(where=str(path), problem=problem)
            else:
                yield from _check_catalog(catalog, path)


def errors() -> list[Finding]:
    """Return the errors of the files. With one, rendering a shipped template may fail, too."""
    return [finding for finding in check_translations() if finding.severity == "error"]


def _check_quotation_marks(path: Path) -> None:
    """Raise ValueError for a line that Babel would cut off. Other encodings than UTF-8 are not checked."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate([] if "\ufffd" in text else text.splitlines(), start=1):
        if not _COMMENT_OR_QUOTED.fullmatch(line.strip()):
            raise ValueError(f"line {number}: quotation mark missing")


def _check_catalog(catalog: Catalog, path: Path) -> Iterator[Finding]:
    where = str(path)
    for message in catalog:
        if problem := problem_of(message):
            text = _forms(message.id)[0]
            yield KINDS["translation-broken"].found(where=where, text=text, problem=problem)
    if path.stem in current().RECOVERY_LANGUAGES and path.stem != "en":
        pot, shipped = texts_in(TRANSLATIONS / "messages.pot"), TRANSLATIONS / path.name
        missing = (
            pot - _translated(catalog) - (_translated(read_catalog(shipped)) if shipped.is_file() else set())
        )
        if missing:
            count, examples = f"{len(missing)} of {len(pot)}", _examples(missing)
            yield KINDS["translation-missing"].found(where=where, count=count, examples=examples)


def is_translated(message: Message) -> bool:
    """True if gettext uses the translation. It ignores fuzzy ones."""
    return bool(message.id) and all(_forms(message.string)) and not message.fuzzy


def problem_of(message: Message) -> str | None:
    """Return why a translation cannot be used, or None if it can."""
    if not message.id or message.fuzzy:
        return None
    original = "".join(_forms(message.id))
    # Babel's Message.check() skips texts without placeholders, and accepts an unfinished "%(site)".
    for text in _forms(message.string):
        rest = text.replace("%%", "")
        if unknown := set(_PLACEHOLDER.findall(rest)).difference(_PLACEHOLDER.findall(original)):
            return f"there is no {min(unknown)}"
        if "%" in _PLACEHOLDER.sub("", rest):
            return "a percent sign stands alone"
        if "\n" in text and "\n" not in original:
            return "it contains a line break"
        if {*'"<>'} & set(text) - set(original):
            return 'it contains ", < or >, which is HTML syntax: write “ and ”'
    return None


def texts_in(path: Path) -> set[str]:
    """Return the English texts of a .po or .pot file, translated or not."""
    return {_forms(message.id)[0] for message in read_catalog(path) if message.id}  # the header has no id


def _translated(catalog: Catalog) -> set[str]:
    return {_forms(message.id)[0] for message in catalog if is_translated(message)}


def _forms(text: str | Iterable[str] | None) -> list[str]:
    """Return the singular and plural forms of a text, or its only form."""
    return [text or ""] if text is None or isinstance(text, str) else list(text)


def _examples(texts: set[str]) -> str:
    """Return the first three texts, quoted and shortened."""
    shown = [f"“{text[:60]}{'…' if len(text) > 60 else ''}”" for text in sorted(texts)[:3]]
    return ", ".join(shown) + (" …" if len(texts) > len(shown) else "")
