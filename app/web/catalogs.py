"""Translation catalogs: Flask-Security's, Sparekey's and an admin's, for each language."""

import io
from pathlib import Path

import flask_security
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from flask_babel import Domain, get_locale
from flask_security.babel import FsDomain

FLASK_SECURITY_TRANSLATIONS = Path(flask_security.__file__).parent / "translations"


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
    """Compile a language's .po file, such as de.po. Raise ValueError if it is malformed."""
    compiled = io.BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=path.stem))
    compiled.seek(0)
    return Translations(compiled)
