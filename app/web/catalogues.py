"""Translation catalogues: Sparekey's, Flask-Security's and an admin's, merged for each language."""

from __future__ import annotations

import io
from pathlib import Path

import flask_security
from babel.support import NullTranslations, Translations
from flask import current_app
from flask_babel import Babel, Domain, get_locale
from flask_security.babel import FsDomain

from ..settings.schema import Settings
from ..settings.sources import TRANSLATIONS

OF_FLASK_SECURITY = Path(flask_security.__file__).parent / "translations"


class Catalogues(FsDomain):
    """All words in one place, read once for each language. Flask-Security asks here, too."""

    def __init__(self, settings: Settings) -> None:
        Domain.__init__(self)
        own = settings.RECOVERY_TRANSLATION_DIR
        self.folders = [TRANSLATIONS, *([Path(own)] if own else [])]
        self._read: dict[str, NullTranslations] = {}

    def get_translations(self) -> NullTranslations:
        """Of the language that is spoken."""
        locale = get_locale()
        if locale is None:
            return NullTranslations()
        name = str(locale)
        if name not in self._read:
            self._read[name] = self._all(name)
        return self._read[name]

    def _all(self, name: str) -> NullTranslations:
        texts = _of_flask_security(name)
        for folder in self.folders:
            if (path := folder / f"{name}.po").is_file():
                more = compiled(path, name)
                texts.merge(more)
                texts.plural = more.plural  # which merging forgets
        return texts


def _of_flask_security(name: str) -> Translations:
    """Its catalogue; for a language without a country, of whatever country it has one."""
    for folder in (name, f"{name}_{name.upper()}", f"{name}_*"):
        if found := sorted(OF_FLASK_SECURITY.glob(f"{folder}/LC_MESSAGES/flask_security.mo")):
            with found[0].open("rb") as file:
                return Translations(file)
    return Translations()


def compiled(path: Path, name: str) -> Translations:
    """What msgfmt would make of it: nobody has to run anything after changing a word. Raises ValueError."""
    from babel.messages import mofile, pofile  # a language is read once; most processes read none

    with path.open("rb") as file:
        catalogue = pofile.read_po(file, locale=name)
    compiled = io.BytesIO()
    mofile.write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


class CatalogueBabel(Babel):  # type: ignore[misc]  # Flask-Babel has no types
    """Flask-Babel, asking our catalogues."""

    @property
    def domain_instance(self) -> Catalogues:
        words: Catalogues = current_app.extensions["recovery_words"]
        return words
