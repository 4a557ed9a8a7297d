"""Translations: the shipped ones are complete, and the checks find what is wrong with an admin's own."""

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages import extract
from babel.messages.pofile import read_po
from looks import gallery
from support.site import ROOT, load_settings
from support.translations import SHIPPED, write_translations

from app import create_app
from app.pages import translation_checks
from app.settings.problems import SettingsError
from app.settings.sources import TRANSLATIONS
from app.web.errors import RequestError
from examples import demo

SOURCE = TRANSLATIONS / "messages.pot"
JARGON = re.compile(r"\b(token|jeton|ficha|hash|cookies? jar)s?\b", re.IGNORECASE)


def test_catalog_source_holds_every_text() -> None:
    """`make words` collects the texts."""
    keywords = {**extract.DEFAULT_KEYWORDS, "_l": None, "N_": None}
    texts = list(extract.extract_from_dir(ROOT / "app", [("**.py", "python")], keywords=keywords))
    for folder in (ROOT / "templates", ROOT / "examples" / "demo" / "templates"):
        methods, trimmed = [("**", "jinja2")], {"**": {"trimmed": "true"}}
        texts += extract.extract_from_dir(folder, methods, options_map=trimmed)
    collected = {text[0] if isinstance(text, tuple) else text for _, _, text, *_ in texts}
    assert collected == translation_checks.texts_in(SOURCE)


def test_catalogs_are_shipped_for_four_languages() -> None:
    assert SHIPPED == ["ar", "de", "es", "fr"]


@pytest.mark.parametrize("language", SHIPPED)
def test_catalog_is_complete_and_keeps_placeholders(language: str) -> None:
    path = TRANSLATIONS / f"{language}.po"
    messages = [message for message in translation_checks.read(path) if message.id]
    assert [message.id for message in messages if translation_checks.problem_of(message)] == []
    assert [message.id for message in messages if not translation_checks.is_translated(message)] == []
    assert translation_checks.texts_in(path) == translation_checks.texts_in(SOURCE)
    placeholders = re.compile(r"%\(\w+\)s|\{\w+\}")
    for message in messages:
        if not message.pluralizable:
            original, translation = (
                set(placeholders.findall(str(text))) for text in (message.id, message.string)
            )
            assert original == translation, message.id


def test_catalogs_hold_no_jargon() -> None:
    for name in ("messages.pot", *(f"{language}.po" for language in SHIPPED)):
        for message in translation_checks.read(TRANSLATIONS / name):
            for text in (message.id, message.string):
                assert not JARGON.search(str(text)), text


# Of scripts and checks. Other data- attributes hold texts, which scripts show.
NO_TEXT = {"data-code", "data-passkey", "data-options", "data-least", "data-most"}
# In no catalog: names, addresses, made-up data, instructions for mail programs.
UNTRANSLATED = re.compile(
    r"""Sparekey(\ demo)? | (https?://|mailto:)?[\w.+•%/~-]+@?[\w./~-]* | Alice's\ telephone | My\ key | [\W\d_]*
        | Firefox,\ Linux | manage\.py\ events | \d+\ Februaro\ .*\ UTC | There\ are\ more\ events.* | My\ phone | ,\ +aŭ
        | The\ security\ key\ on\ .* | (A\ subject\ that\ goes\ on\ and\ on,\ as\ some\ do,\ ?)+""",
    re.VERBOSE,
)


class TextReader(HTMLParser):
    """Collects all texts of a page that a person reads or hears."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside.append(tag)
        values = {name: value or "" for name, value in attrs}
        names = ["alt", "title", "aria-label", "placeholder"]
        names += [name for name in values if name.startswith("data-") and name not in NO_TEXT]
        names += ["value"] if tag == "input" and values.get("type") == "submit" else []
        self.texts += [values.get(name, "") for name in names]

    def handle_endtag(self, tag: str) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"style", "script", "pre"} & set(self.inside):
            self.texts.append(data)


def texts_of(html: str) -> str:
    reader = TextReader()
    reader.feed(html)
    return "\n".join(text.strip() for text in reader.texts if text.strip())


def write_marked_translations(folder: Path) -> str:
    """Write a language that puts each text between marks."""
    texts: dict[Any, Any] = {}
    with SOURCE.open("rb") as file:
        for message in read_po(file):
            if message.id:
                forms = message.id if isinstance(message.id, tuple) else (message.id,)
                marked = tuple(f"⟦{text}⟧" for text in forms)
                texts[message.id] = marked if message.pluralizable else marked[0]
    return write_translations(folder, "eo", texts)


def test_every_text_of_pages_and_mails_is_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a language that marks every text, none is bare."""
    marking = {
        "RECOVERY_TRANSLATION_DIR": write_marked_translations(tmp_path),
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
        shown |= {
            f"mail {name}": mail.html,
            f"text {name}": f"<p>{mail.body}</p>",
            f"subject {name}": mail.subject,
        }
    bare = {}
    for name, html in shown.items():
        rest = re.sub(r"⟦[^⟦⟧]*(⟦[^⟦⟧]*⟧[^⟦⟧]*)*⟧", "", texts_of(html))
        if left := [text for text in rest.splitlines() if not UNTRANSLATED.fullmatch(text.strip(" ·:"))]:
            bare[name] = left
    assert not bare, json.dumps(bare, indent=1, ensure_ascii=False)


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
        ('msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=(n ? import);\\n"', "unreadable", "cannot"),
        ('msgid ""\nmsgstr "Content-Type: text/plain; charset=nonsense\\n"', "unreadable", "cannot"),
        ('msgid "Sign inn"\nmsgstr "Anmelden"', "unused", "No page or email contains “Sign inn”"),
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


def test_translation_of_an_added_language_is_found_incomplete(tmp_path: Path) -> None:
    own_text = "Lost? Call %(number)s"
    folder = write_translations(tmp_path / "words", "nl", {"Sign in": "Inloggen", own_text: "Kwijt?"})
    templates = tmp_path / "templates" / "security"
    templates.mkdir(parents=True)
    template = f'{{% extends "shipped/security/check_mail.html" %}}{{{{ _("{own_text}") }}}}'
    (templates / "check_mail.html").write_text(template)
    folders = {"RECOVERY_TRANSLATION_DIR": folder, "RECOVERY_TEMPLATE_DIR": str(tmp_path / "templates")}
    with create_app(load_settings(RECOVERY_LANGUAGES=["en", "nl"], **folders)).app_context():
        [finding] = list(translation_checks.check_translations())
    assert finding.id == "translation-missing"
    assert re.match(r"\d{3} of \d{3} texts are missing, such as “", finding.what)


def test_translation_checks_ignore_other_files_and_report_a_folder(tmp_path: Path) -> None:
    folder = write_translations(tmp_path / "words", "de", {"Sign in": "Anmelden"})
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "logo.png").write_bytes(b"\x89PNG\r\n")
    (templates / "note").write_bytes("Grüße".encode("latin-1"))
    create_app(load_settings(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_TEMPLATE_DIR=str(templates)))
    (Path(folder) / "fr.po").mkdir()
    with pytest.raises(SettingsError, match=r"fr\.po.*cannot be read"):
        create_app(load_settings(RECOVERY_TRANSLATION_DIR=folder))


def test_no_error_is_raised_with_a_text_that_is_not_translated() -> None:
    def names_of(error: type) -> Iterator[str]:
        yield error.__name__
        for derived in error.__subclasses__():
            yield from names_of(derived)

    errors, plain = {*names_of(RequestError)}, []
    for path in (ROOT / "app").rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = [node for node in tree.body if isinstance(node, ast.Assign)]
        texts = {
            target.id
            for node in constants
            for target in node.targets
            if isinstance(target, ast.Name) and isinstance(node.value, ast.Constant | ast.JoinedStr)
        }
        for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]:
            first = call.args[0]
            is_plain = isinstance(first, ast.Constant) or (isinstance(first, ast.Name) and first.id in texts)
            if ast.unparse(call.func).rpartition(".")[2] in errors and is_plain:
                plain.append(f"{path.name}:{call.lineno}")
    assert plain == []
