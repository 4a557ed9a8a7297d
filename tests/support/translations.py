"""The shipped languages, an admin's own translations, and the language of a page."""

import re
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog
from babel.messages.pofile import write_po

from app.settings.sources import TRANSLATIONS

SHIPPED = sorted(path.stem for path in TRANSLATIONS.glob("*.po"))


def write_translations(folder: Path, language: str, texts: dict[Any, Any]) -> str:
    """Write a language's file into an admin's folder, and return the folder."""
    catalog = Catalog(locale=language)
    for text, translation in texts.items():
        catalog.add(text, translation)
    folder.mkdir(exist_ok=True)
    with (folder / f"{language}.po").open("wb") as file:
        write_po(file, catalog)
    return str(folder)


def language_of(page: Any) -> str:
    return str(re.search(r'<html lang="([^"]+)"', page.text)[1])
