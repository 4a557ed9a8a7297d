"""Translations: the shipped ones are complete, and the checks find what is wrong with an admin's own."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from babel.messages import extract
from looks import gallery
from support.site import ROOT, load_settings
from support.translations import SHIPPED, write_translations

from app import create_app
from app.pages import translation_checks
from app.settings import checks
from app.settings.problems import SettingsError
from app.settings.sources import TRANSLATIONS
from app.web import i18n
from examples import demo

SOURCE = TRANSLATIONS / "messages.pot"
JARGON = re.compile(r"\b(token|jeton|ficha|hash|cookies? jar)s?\b", re.IGNORECASE)
PLACEHOLDERS = re.compile(r"%\(\w+\)s|\{\w+\}")


def test_catalog_source_holds_every_text() -> None:
    """`make words` collects the texts."""
    keywords = {**extract.DEFAULT_KEYWORDS, "_l": None, "N_": None}
    texts = list(extract.extract_from_dir(ROOT / "app", [("**.py", "python")], keywords=keywords))
    for folder in (ROOT / "templates", ROOT / "examples" / "demo" / "templates"):
        methods, trimmed = [("**", "jinja2")], {"**": {"trimmed": "true"}}
        texts += extract.extract_from_dir(folder, methods, options_map=trimmed)
    collected = {text[0] if isinstance(text, tuple) else text for _, _, text, *_ in texts}
    assert collected == translation_checks.texts_in(SOURCE)
    assert [text for text in collected if JARGON.search(text)] == []
    assert SHIPPED == ["ar", "de", "es", "fr"]


@pytest.mark.parametrize("language", SHIPPED)
def test_catalog_is_complete_keeps_placeholders_and_holds_no_jargon(language: str) -> None:
    path = TRANSLATIONS / f"{language}.po"
    assert translation_checks.texts_in(path) == translation_checks.texts_in(SOURCE)
    assert not re.search(r'^msgstr\[\d\] ""\n(?!")', path.read_text(), re.M)
    for message in i18n.read_catalog(path):
        if message.id:
            assert translation_checks.is_translated(message), message.id
            assert translation_checks.problem_of(message) is None, message.id
            assert not JARGON.search(str(message.string)), message.id
        if not message.pluralizable:
            original, translation = (set(PLACEHOLDERS.findall(str(t))) for t in (message.id, message.string))
            assert original == translation, message.id


# --- every text is translated ---

# Attributes that hold texts, which scripts show; the other data- attributes are of scripts and checks.
ATTRIBUTE = re.compile(
    r'\s(?:alt|title|aria-label|placeholder|data-(?!code|passkey|options|least|most)[\w-]+)="([^"]*)"'
)
SUBMIT = re.compile(r'<input\b(?=[^>]*type="submit")[^>]*value="([^"]*)"')
NOT_READ = re.compile(r"<(style|script|pre)\b.*?</\1>|<[^>]*>", re.DOTALL)
# In no catalog: names, addresses, made-up data, instructions for mail programs.
UNTRANSLATED = re.compile(
    r"""Sparekey(\ demo)? | (https?://|mailto:)?[\w.+•%/~-]+@?[\w./~-]* | Alice's\ telephone | My\ key | [\W\d_]*
        | Firefox,\ Linux(\ ·\ [\d.]+)?
        | manage\.py\ (events|users\ show\ '\#\d+') | \d+\ Februaro\ .*\ UTC | There\ are\ more\ events.* | My\ phone | ,\ +aŭ
        | The\ security\ key\ on\ .* | (A\ subject\ that\ goes\ on\ and\ on,\ as\ some\ do,\ ?)+""",
    re.VERBOSE,
)


def texts_of(html: str) -> Iterator[str]:
    """Yield every text of a page that a person reads or hears, by lines."""
    texts = [*ATTRIBUTE.findall(html), *SUBMIT.findall(html), *NOT_READ.sub("\n", html).splitlines()]
    yield from (unescape(text) for text in texts)


def test_every_text_of_pages_and_mails_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a language that puts every text between marks, none is bare."""
    marked: dict[Any, Any] = {}
    for message in i18n.read_catalog(SOURCE):
        if message.id:
            is_plural = isinstance(message.id, tuple)
            marks = tuple(f"⟦{text}⟧" for text in (message.id if is_plural else [message.id]))
            marked[message.id] = marks if is_plural else marks[0]
    marking = {
        "RECOVERY_TRANSLATION_DIR": write_translations(tmp_path, "eo", marked),
        "RECOVERY_LANGUAGES": ["en", "eo"],
        "BABEL_DEFAULT_LOCALE": "eo",
    }
    apps = {
        name: demo.create_app(load_settings(**{**settings, **marking}))
        for name, settings in gallery.DEPLOYMENTS.items()
    }
    monkeypatch.setattr(gallery, "deployment", apps.__getitem__)
    shown = gallery.pages_in("eo")
    for name, mail in gallery.mails_in("eo").items():
        shown |= {f"mail {name}": mail.html, f"text {name}": mail.body, f"subject {name}": mail.subject}
    bare = {}
    for name, html in shown.items():
        rest = re.sub(r"⟦[^⟦⟧]*(⟦[^⟦⟧]*⟧[^⟦⟧]*)*⟧", "", "\n".join(texts_of(html)))
        if left := [text for text in rest.splitlines() if not UNTRANSLATED.fullmatch(text.strip(" ·:"))]:
            bare[name] = left
    assert not bare, json.dumps(bare, indent=1, ensure_ascii=False)


# --- an admin's own ---

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'
PLURAL = """msgid "You have %(num)d code left. New codes will replace it."
msgid_plural "You have %(num)d codes left. New codes will replace them."
msgstr[0] ""
msgstr[1] "%(nummer)d\""""


@pytest.mark.parametrize(
    ("po", "id", "text"),
    [
        ('msgid "Need help? %(contact)s"\nmsgstr "Hilfe? %(kontakt)s"', "broken", "there is no %(kontakt)s"),
        ('msgid "Sign in"\nmsgstr "100 % sicher"', "broken", "“Sign in”"),
        ('msgid "Reset your %(site)s password"\nmsgstr "%(site)d"', "broken", "there is no %(site)d"),
        ('msgid "Sign in"\nmsgstr "An\\nmelden"', "broken", "it contains a line break"),
        ('msgid "Show"\nmsgstr "\\"Zeigen\\" onfocus"', "broken", "write “ and ”"),
        (PLURAL, "broken", "there is no %(nummer)d"),
        ('msgid "Sign in"\nmsgstr "Gr\udcfc\udcdf"', "unreadable", "cannot be read"),
        ('msgid "Sign in"\nAnmelden', "unreadable", "cannot be read"),
        ('msgid "Sign in\nmsgstr "Anmelden"', "unreadable", "line 4: quotation mark missing"),
        ('msgid "Sign in"\nmsgstr Anmelden"', "unreadable", "line 5: quotation mark missing"),
        ('msgid "Sign in"\nmsgstr Anmelden', "unreadable", "line 5: quotation mark missing"),
        ('msgid "Sign in"\nmsgstr "An\\"', "unreadable", "line 5: quotation mark missing"),
        ('msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=(n ? import);\\n"', "unreadable", "cannot"),
        ('msgid ""\nmsgstr "Content-Type: text/plain; charset=nonsense\\n"', "unreadable", "cannot"),
    ],
)
def test_translation_that_is_wrong_is_found(tmp_path: Path, po: str, id: str, text: str) -> None:
    header = "" if po.startswith('msgid ""') else HEADER
    (tmp_path / "de.po").write_text(header + po + "\n", errors="surrogateescape")
    settings = load_settings(RECOVERY_TRANSLATION_DIR=str(tmp_path))
    with create_app(settings, checked=False).app_context():
        [finding] = list(translation_checks.check_translations())
    assert finding.id == f"translation-{id}"
    assert text in f"{finding.what} {finding.hint}"
    if finding.severity == "error":
        with pytest.raises(SettingsError, match=re.escape(str(tmp_path / "de.po"))):
            create_app(settings)
    else:
        create_app(settings)


def test_translation_of_no_language_is_found(tmp_path: Path) -> None:
    (tmp_path / "english.po").write_text(HEADER)
    settings = load_settings(RECOVERY_TRANSLATION_DIR=str(tmp_path))
    with create_app(settings, checked=False).app_context():
        [finding] = list(translation_checks.check_translations())
    assert (finding.id, "english" in finding.what) == ("translation-of-none", True)


def test_translation_of_an_added_language_is_found_incomplete(tmp_path: Path) -> None:
    own_text, templates = "Lost? Call %(number)s", tmp_path / "templates"
    words = write_translations(tmp_path / "words", "nl", {"Sign in": "Inloggen", own_text: "Kwijt?"})
    (templates / "security").mkdir(parents=True)
    template = f'{{% extends "shipped/security/check_mail.html" %}}{{{{ _("{own_text}") }}}}'
    (templates / "security" / "check_mail.html").write_text(template)
    (templates / "logo.png").write_bytes(b"\x89PNG\r\n")  # other files are ignored
    (templates / "note").write_bytes("Grüße".encode("latin-1"))
    folders = {"RECOVERY_TRANSLATION_DIR": words, "RECOVERY_TEMPLATE_DIR": str(templates)}
    with create_app(load_settings(RECOVERY_LANGUAGES=["en", "nl"], **folders)).app_context():
        [finding] = list(translation_checks.check_translations())
    assert finding.id == "translation-missing"
    assert re.match(r"\d{3} of \d{3} texts are missing, such as “", finding.what)
    assert "msgstr" in finding.hint  # a copied messages.pot has every text, and its translation is empty
    (Path(words) / "fr.po").mkdir()
    with pytest.raises(SettingsError, match=r"fr\.po.*cannot be read"):
        create_app(load_settings(RECOVERY_TRANSLATION_DIR=words))


def test_copied_source_with_its_two_plural_forms_is_a_whole_language(tmp_path: Path) -> None:
    """Of Italian's three forms in CLDR, the second is for millions, and the third for most numbers."""
    empty = re.compile(r'^(msgstr|msgstr\[0\]) ""$(?!\n")', re.MULTILINE)
    filled = empty.sub(r'\1 "Uno"', SOURCE.read_text()).replace('msgstr[1] ""', 'msgstr[1] "Tanti"')
    (tmp_path / "it.po").write_text(filled)
    settings = load_settings(RECOVERY_TRANSLATION_DIR=str(tmp_path), RECOVERY_LANGUAGES=["en", "it"])
    with create_app(settings, checked=False).app_context():
        assert list(translation_checks.check_translations()) == []
    one, many = "{count} of %(num)d character", "{count} of %(num)d characters"
    italian = i18n.compile_po(tmp_path / "it.po")
    assert [italian.ungettext(one, many, number) for number in (1, 15)] == ["Uno", "Tanti"]
    (tmp_path / "it.po").write_text(filled.replace('msgstr[1] "Tanti"', 'msgstr[1] ""', 1))
    with create_app(settings, checked=False).app_context():
        [finding] = list(translation_checks.check_translations())
    assert finding.what.startswith("1 of ")


def test_source_tells_editors_its_encoding() -> None:
    """Without it, msginit and msgfmt refuse a copy with other letters than ASCII."""
    assert '"Content-Type: text/plain; charset=utf-8\\n"' in SOURCE.read_text().split("\n\n")[0]


@pytest.mark.parametrize("translation", ["%(sito)s", "Gr\udcfc\udcdf"])
def test_broken_translation_is_not_blamed_on_templates(tmp_path: Path, translation: str) -> None:
    words, own = tmp_path / "words", tmp_path / "templates/security/email/reset_instructions.txt"
    words.mkdir()
    own.parent.mkdir(parents=True)
    own.write_text('{% extends "shipped/security/email/reset_instructions.txt" %}')
    po = f'{HEADER}msgid "Reset your %(site)s password"\nmsgstr "{translation}"\n'
    (words / "de.po").write_text(po, errors="surrogateescape")
    folders = {"RECOVERY_TRANSLATION_DIR": str(words), "RECOVERY_TEMPLATE_DIR": str(tmp_path / "templates")}
    with create_app(load_settings(BABEL_DEFAULT_LOCALE="de", **folders), checked=False).app_context():
        assert {finding.where for finding in checks.run()} == {str(words / "de.po")}
