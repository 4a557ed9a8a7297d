"""The checks of an admin's translations: each is tried with made-up values and compared with what is said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babel import UnknownLocaleError
from flask import current_app

from ..settings import current
from ..settings.checks import Finding, Kind, file_check
from ..settings.sources import TRANSLATIONS
from ..web import catalogues
from ..web.catalogues import OF_FLASK_SECURITY
from ..web.templates import SUFFIXES

if TYPE_CHECKING:
    from babel.messages.catalog import Catalog, Message

DIRECTORY = "RECOVERY_TRANSLATION_DIR"
SHOWN = 3  # texts named in a finding
LENGTH_SHOWN = 60
UNREADABLE = Kind(
    "translation-unreadable",
    "error",
    "It can not be read: {said}",
    "Pages and mails in this language would be English, or fail.",
    "Correct the file; it is one of gettext's (.po), in UTF-8.",
    DIRECTORY,
)
BROKEN = Kind(
    "translation-broken",
    "error",
    "What stands for “{text}” can not be filled in: {said}",
    "The page or mail that says it would fail.",
    "Use the names in %(…)s as the English text has them; a percent sign alone is %%.",
    DIRECTORY,
)
MISSING = Kind(
    "translation-missing",
    "warning",
    "{count} of {all} texts are missing, such as {some}.",
    "They are said in English, in the midst of another language.",
    "Take the texts from app/web/translations/messages.pot.",
    DIRECTORY,
)
UNUSED = Kind(
    "translation-unused",
    "warning",
    "Nothing says {some}.",
    "What stands for it is shown to nobody: the English text has changed, or was mistyped.",
    "Take the texts as they stand in app/web/translations/messages.pot.",
    DIRECTORY,
)
_NAME = re.compile(r"%\((\w+)\)(\w)")
_ALONE = re.compile(r"(?<!%)(?:%%)*%(?![(%])")


@file_check
def of_own_words() -> list[Finding]:
    """Nothing, unless the admin has some: ours were looked at by our tests. Looks once in an app's life."""
    known: dict[str, Any] = current_app.extensions
    if "word_findings" not in known:
        known["word_findings"] = list(_found())
    found: list[Finding] = known["word_findings"]
    return found


def _found() -> Iterator[Finding]:
    folder = current().RECOVERY_TRANSLATION_DIR
    if not folder:
        return
    said = _said()
    for path in sorted(Path(folder).glob("*.po")):
        try:
            catalogue = read(path)
            catalogues.read(path)  # which reads the rule for plural forms
        except (ValueError, LookupError) as error:  # an encoding or a language that there is not
            yield UNREADABLE.found(where=str(path), said=" ".join(str(error).split()))
            continue
        for message in catalogue:
            if problem := why_broken(message):
                yield BROKEN.found(where=str(path), text=_text(message), said=problem)
        yield from _compared(path, catalogue, said)


def _compared(path: Path, catalogue: Catalog, said: set[str]) -> Iterator[Finding]:
    ours = texts_in(TRANSLATIONS / "messages.pot")
    there = {_text(message) for message in catalogue if is_translated(message)}
    if path.stem in current().RECOVERY_LANGUAGES and path.stem != "en":
        shipped = TRANSLATIONS / path.name
        with_ours = there | (
            {_text(m) for m in read(shipped) if is_translated(m)} if shipped.is_file() else set()
        )
        if missing := sorted(ours - with_ours):
            yield MISSING.found(where=str(path), count=len(missing), all=len(ours), some=_some(missing))
    if unused := sorted(there - said):
        yield UNUSED.found(where=str(path), some=_some(unused))


def read(path: Path) -> Catalog:
    """Raises ValueError."""
    from babel.messages import pofile  # takes 30 ms, and few need it

    language = None if path.suffix == ".pot" else path.stem
    try:
        with path.open("rb") as file:
            return pofile.read_po(file, locale=language, abort_invalid=True)
    except (OSError, pofile.PoFileError, UnknownLocaleError) as error:
        raise ValueError(str(error)) from None


def is_translated(message: Message) -> bool:
    """Whether it counts: gettext passes over what is marked as fuzzy, and so do we."""
    texts = message.string if isinstance(message.string, tuple | list) else [message.string]
    return bool(message.id) and all(texts) and not message.fuzzy


def why_broken(message: Message) -> str | None:
    """Why a translation fails when it is said; None when it does not."""
    if not message.id or message.fuzzy:
        return None
    originals = message.id if isinstance(message.id, tuple | list) else [message.id]
    values = {name: 1 if kind == "d" else "1" for text in originals for name, kind in _NAME.findall(text)}
    for text in message.string if isinstance(message.string, tuple | list) else [message.string]:
        if _ALONE.search(str(text)):
            return "a percent sign stands alone"
        if not any("\n" in original for original in originals) and "\n" in str(text):
            return "a line ends within it"
        if {*'"<>'} & set(str(text)) - set("".join(originals)):
            return 'it holds ", < or >, which HTML reads as its own: write “ and ”'
        try:
            str(text) % values
        except KeyError as error:
            return f"there is no {error.args[0]}"
        except (TypeError, ValueError) as error:
            return str(error)
    return None


def _said() -> set[str]:
    """All that is said: by us, by Flask-Security, and by the admin's own templates."""
    found = texts_in(TRANSLATIONS / "messages.pot") | texts_in(OF_FLASK_SECURITY / "flask_security.pot")
    return found | _said_by_templates(current().RECOVERY_TEMPLATE_DIR)


def _said_by_templates(folder: str) -> set[str]:
    from babel.messages import extract  # as above

    if not folder:
        return set()
    templates = [(f"**{ending}", "jinja2") for ending in SUFFIXES]
    try:
        found = list(extract.extract_from_dir(folder, templates, {"**": {"trimmed": "true"}}))
    except UnicodeDecodeError:  # of which the checks of templates tell
        return set()
    return {text[0] if isinstance(text, tuple) else text for _, _, text, *_ in found}


def texts_in(path: Path) -> set[str]:
    return {_text(message) for message in read(path) if message.id}  # without an id: the head


def _text(message: Message) -> str:
    return str(message.id[0] if isinstance(message.id, tuple | list) else message.id)


def _some(texts: list[str]) -> str:
    shown = [
        f"“{text if len(text) <= LENGTH_SHOWN else text[:LENGTH_SHOWN] + '…'}”" for text in texts[:SHOWN]
    ]
    return ", ".join(shown) + (" …" if len(texts) > SHOWN else "")
