"""In every language: what is chosen, what is complete, and how an admin adds one or changes a word."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import pytest
from babel.messages import extract
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po
from looks import gallery
from sqlalchemy import select
from support.site import NEW_PASSWORD, ROOT, Site, load_settings

from app import create_app
from app.accounts.models import User
from app.cli import mail
from app.db.engine import db
from app.mail import outbox
from app.mail.outbox import OutboxMessage
from app.pages import translation_checks
from app.settings.problems import SettingsError
from app.settings.sources import TRANSLATIONS
from app.web import i18n
from examples import demo

SHIPPED = sorted(path.stem for path in TRANSLATIONS.glob("*.po"))
WORDS_OF_PROGRAMMERS = re.compile(r"\b(token|jeton|ficha|hash|cookies? jar)s?\b", re.IGNORECASE)


def write_words(folder: Path, language: str, **texts: str) -> str:
    """An admin's directory with one file of translations."""
    catalogue = Catalog(locale=language)
    for text, translation in texts.items():
        catalogue.add(text, translation)
    folder.mkdir(exist_ok=True)
    with (folder / f"{language}.po").open("wb") as file:
        write_po(file, catalogue)
    return str(folder)


def language_of(page: Any) -> str:
    return re.search(r'<html lang="([^"]+)"', page.text)[1]  # type: ignore[index]


def test_all_languages_are_here() -> None:
    assert SHIPPED == ["ar", "de", "es", "fr"]


def test_what_is_said_is_collected_for_translation() -> None:
    """`make words` was run after the last change of a text."""
    said: set[Any] = set()
    python = extract.extract_from_dir(
        ROOT / "app", [("**.py", "python")], keywords={**extract.DEFAULT_KEYWORDS, "_l": None, "N_": None}
    )
    templates = [
        found
        for folder in (ROOT / "templates", ROOT / "examples" / "demo" / "templates")
        for found in extract.extract_from_dir(
            folder, [("**", "jinja2")], options_map={"**": {"trimmed": "true"}}
        )
    ]
    for _, _, text, *_ in [*python, *templates]:
        said.add(text[0] if isinstance(text, tuple) else text)
    collected = translation_checks.texts_in(TRANSLATIONS / "messages.pot")
    assert said == collected


@pytest.mark.parametrize("language", SHIPPED)
def test_every_text_is_translated_and_can_be_filled_in(language: str) -> None:
    catalogue = translation_checks.read(TRANSLATIONS / f"{language}.po")
    wrong = {
        m.id: translation_checks.problem_of(m) for m in catalogue if m.id and translation_checks.problem_of(m)
    }
    missing = [m.id for m in catalogue if m.id and not translation_checks.is_translated(m)]
    assert not wrong
    assert not missing
    there = translation_checks.texts_in(TRANSLATIONS / f"{language}.po")
    assert there == translation_checks.texts_in(TRANSLATIONS / "messages.pot")


@pytest.mark.parametrize("language", SHIPPED)
def test_a_translation_keeps_the_names_of_what_is_filled_in(language: str) -> None:
    """All of them: a mail that no longer says for how long its link works would fill in well, too."""
    for message in translation_checks.read(TRANSLATIONS / f"{language}.po"):
        if message.id and not message.pluralizable:
            names = [
                set(re.findall(r"%\(\w+\)s|\{\w+\}", str(text))) for text in (message.id, message.string)
            ]
            assert names[0] == names[1], message.id


def test_nobody_is_told_of_tokens() -> None:
    for name in ("messages.pot", *(f"{language}.po" for language in SHIPPED)):
        for message in translation_checks.read(TRANSLATIONS / name):
            for text in (message.id, message.string):
                assert not WORDS_OF_PROGRAMMERS.search(str(text)), text


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [
        ("de-AT, en;q=0.5", "de"),
        ("nl, fr-CA;q=0.8, en;q=0.5", "fr"),
        ("nl", "en"),
        ("", "en"),
        ("ar-EG", "ar"),
        ("*", "en"),
        ("en;q=\xff, \x7f;;;", "en"),
    ],
)
def test_a_page_speaks_what_the_browser_asks_for(site: Site, asked: str, spoken: str) -> None:
    page = site.visitor().open("/login", headers={"Accept-Language": asked})
    assert language_of(page) == spoken


def test_whoever_chooses_a_language_is_answered_in_it_from_then_on(site: Site) -> None:
    visitor = site.visitor()
    german = {"Accept-Language": "de"}
    assert language_of(visitor.open("/reset?language=fr", headers=german)) == "fr"
    assert language_of(visitor.open("/login", headers=german)) == "fr"
    assert language_of(visitor.open("/nowhere", headers=german)) == "fr"
    assert language_of(visitor.open("/login?language=klingon", headers=german)) == "fr"
    assert language_of(visitor.open("/login?language=ar", headers=german)) == "ar"
    assert 'dir="rtl"' in visitor.open("/login").text


def test_the_switch_keeps_what_the_page_was_asked_for(site: Site) -> None:
    page = site.visitor().open("/login?next=/change").text
    assert 'href="?next=%2Fchange&amp;language=de" hreflang="de" lang="de" dir="ltr">Deutsch</a>' in page
    assert 'lang="en" dir="ltr" aria-current="true">English</a>' in page


@pytest.mark.requirement("R44")
def test_the_cookie_says_nothing_but_the_language(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    kept = site.visitor().open("/login?language=de").headers["Set-Cookie"]
    assert kept.startswith("__Host-sparekey_language=de; ")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(kept.split("; "))


def test_with_one_language_there_is_no_switch(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_LANGUAGES=["de"], BABEL_DEFAULT_LOCALE="de")
    page = site.visitor().open("/login", headers={"Accept-Language": "en"})
    assert language_of(page) == "de"
    assert "hreflang" not in page.text


def test_programs_are_answered_in_their_users_language(make_site: Any, tmp_path: Path) -> None:
    folder = write_words(
        tmp_path / "words", "de", **{"Give one email address, username or phone number.": "Nur eine Angabe."}
    )
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder)
    body = {"identity": "alice", "email": "bob"}
    answer = site.visitor().post_json("/reset", json=body, headers={"Accept-Language": "de"})
    assert answer.json["response"]["errors"] == ["Nur eine Angabe."]
    assert answer.json["response"]["error_code"] == "invalid_request"


def test_a_refused_password_is_said_in_the_language_of_the_page(site: Site) -> None:
    link = site.new_link()
    visitor = site.visitor()
    visitor.open("/login?language=de")
    page = visitor.submit(link, password="short", password_confirm="short")
    text = create_app(load_settings()).extensions["babel"].instance.domain_instance
    with site.app.test_request_context(headers={"Accept-Language": "de"}):
        said = text.gettext("Use at least %(length)s characters. A few words in a row do well.", length=15)
    assert "Use at least" not in said
    assert said in page.text
    assert visitor.submit(link, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD).status_code == 302


def test_an_admin_changes_a_word_of_ours(make_site: Any, tmp_path: Path) -> None:
    folder = write_words(tmp_path / "words", "en", **{"Forgot your password?": "Locked out?"})
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder)
    assert "Locked out?" in site.visitor().open("/login").text


def test_an_admin_adds_a_language(make_site: Any, tmp_path: Path) -> None:
    folder = write_words(tmp_path / "words", "nl", **{"Sign in": "Inloggen"})
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_LANGUAGES=["en", "nl"])
    page = site.visitor().open("/login", headers={"Accept-Language": "nl-BE"})
    assert language_of(page) == "nl"
    assert "<h1>Inloggen</h1>" in page.text
    assert 'hreflang="nl" lang="nl" dir="ltr" aria-current="true">Nederlands</a>' in page.text


def test_the_words_of_flask_security_come_with_its_own_translations() -> None:
    app = create_app(load_settings())
    with app.test_request_context(headers={"Accept-Language": "de"}):
        assert app.extensions["security"].i18n_domain.gettext("Invalid password") == "Ungültiges Passwort"


@pytest.mark.parametrize(
    ("span", "in_words"),
    [
        (timedelta(hours=1), {"en": "1 hour", "de": "1 Stunde", "ar": "ساعة"}),
        (timedelta(minutes=90), {"en": "1 hour and 30 minutes", "de": "1 Stunde und 30 Minuten"}),
        (timedelta(days=1, seconds=5), {"en": "1 day and 5 seconds", "fr": "1\xa0jour et 5\xa0secondes"}),
        (timedelta(0), {"en": "0 seconds", "es": "0 segundos"}),
    ],
)
def test_durations_are_said_as_people_say_them(span: timedelta, in_words: dict[str, str]) -> None:
    with create_app(load_settings()).app_context():
        for language, said in in_words.items():
            with i18n.use_language(language):
                assert i18n.duration(span) == said


def test_times_name_their_zone() -> None:
    when = datetime(2026, 2, 28, 14, 5, tzinfo=UTC)
    with create_app(load_settings()).app_context(), i18n.use_language("de"):
        assert i18n.moment(when) == "28. Februar 2026, 14:05:00 UTC"
    berlin = create_app(load_settings(BABEL_DEFAULT_TIMEZONE="Europe/Berlin"))
    with berlin.app_context(), i18n.use_language("de"):
        assert i18n.moment(when.replace(tzinfo=None)) == "28. Februar 2026, 15:05:00 MEZ"


def test_an_account_has_its_mails_in_the_language_that_its_owner_chose(
    make_site: Any, tmp_path: Path
) -> None:
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=write_words(tmp_path / "words", "es", Hello="Hola"))
    owner = site.visitor()
    assert owner.sign_in()
    assert owner.submit("/", "/language", language="es").location == "/"
    assert '<option value="es" lang="es" selected>Español</option>' in owner.open("/").text
    site.new_link()  # which a program asks for, in English
    assert '<html lang="es"' in html_of(site)
    assert owner.submit("/", "/language", language="").location == "/"
    site.new_link()
    assert '<html lang="en"' in html_of(site)


def html_of(site: Site) -> str:
    return str(site.mailbox.mails[-1].get_body(("html",)).get_content())  # type: ignore[union-attr]


def test_a_language_that_is_not_offered_is_refused(site: Site) -> None:
    owner = site.visitor()
    assert owner.post_json("/language", json={"language": "de"}).status_code == 401
    assert owner.sign_in()
    for wrong in ("nl", "../de", None, ["de"], {"a": 1}, 7):
        answer = owner.post_json("/language", json={"language": wrong})
        assert answer.json["response"]["field_errors"] == {"language": ["That language is not offered here."]}
    assert owner.post_json("/language", json={"language": "de"}).json["response"] == {}
    assert site.rows(User)[0]["language"] == "de"


@pytest.mark.parametrize("chosen", ["de", "nl"])
def test_the_gallery_of_mails_speaks_every_language(site: Site, tmp_path: Path, chosen: str) -> None:
    page = tmp_path / "mails.html"
    command = ["preview", "--output", str(page), "--language", chosen]
    result = site.app.test_cli_runner().invoke(mail.mail, command)
    if chosen == "nl":
        assert result.exit_code == 1
        assert "RECOVERY_LANGUAGES has no 'nl'; there are en, de, fr, es, ar" in result.output
    else:
        assert "lang=&#34;de&#34;" in page.read_text()


def texts_of(html: str) -> list[str]:
    """All that a person reads or hears of a page."""
    found: list[str] = []

    class Reader(HTMLParser):
        inside: ClassVar[list[str]] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            self.inside.append(tag)
            given = {name: value or "" for name, value in attributes}
            found.extend(given.get(name, "") for name in ("alt", "title", "aria-label", "placeholder"))
            said = [name for name in given if name.startswith("data-") and name not in NOT_SAID]
            found.extend(given[name] for name in said)
            if tag == "input" and given.get("type") == "submit":
                found.append(given.get("value", ""))

        def handle_endtag(self, tag: str) -> None:
            while self.inside and self.inside.pop() != tag:
                pass

        def handle_data(self, data: str) -> None:
            if not {"style", "script", "pre"} & set(self.inside):
                found.append(data)

    Reader.inside = []
    Reader().feed(html)
    return [text.strip() for text in found if text.strip()]


NOT_SAID = {
    "data-code",
    "data-passkey",
    "data-options",
    "data-least",
    "data-most",
}  # other data- is, by scripts
# What stands in no catalogue: names, addresses, made-up data, what mail programs are told.
NO_WORDS = re.compile(
    r"""Sparekey(\ demo)? | (https?://|mailto:)?[\w.+•%/~-]+@?[\w./~-]* | Alice's\ telephone | My\ key | [\W\d_]*
        | .*Mozilla/.* | manage\.py\ events | \d+\ Februaro\ .*\ UTC | There\ are\ more\ events.* | My\ phone
        | The\ security\ key\ on\ .* | (A\ subject\ that\ goes\ on\ and\ on,\ as\ some\ do,\ ?)+""",
    re.VERBOSE,
)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory with a translation of everything into a language that puts each text between marks."""
    with (TRANSLATIONS / "messages.pot").open("rb") as file:
        source = read_po(file)
    catalogue = Catalog(locale="eo")
    for message in source:
        if message.id:
            ids = message.id if isinstance(message.id, tuple) else (message.id,)
            texts = tuple(f"⟦{text}⟧" for text in ids)
            catalogue.add(message.id, texts if message.pluralizable else texts[0])
    folder = tmp_path_factory.mktemp("marked")
    with (folder / "eo.po").open("wb") as file:
        write_po(file, catalogue)
    return str(folder)


@pytest.mark.filterwarnings("ignore:Passing SelectField choices as tuples")  # Flask-Security's own
def test_nothing_is_said_that_can_not_be_translated(marked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a page or mail says comes from a catalogue: in a language that marks every text, nothing is bare."""
    own = {
        "RECOVERY_TRANSLATION_DIR": marked,
        "RECOVERY_LANGUAGES": ["en", "eo"],
        "BABEL_DEFAULT_LOCALE": "eo",
    }
    apps = {
        name: demo.create_app(load_settings(**{**given, **own}))
        for name, given in gallery.DEPLOYMENTS.items()
    }
    monkeypatch.setattr(gallery, "deployment", apps.__getitem__)
    shown = gallery.pages_in("eo")
    for name, letter in gallery.mails_in("eo").items():
        shown |= {
            f"mail {name}": letter.html,
            f"text {name}": f"<p>{letter.body}</p>",
            f"subject {name}": letter.subject,
        }
    bare = {}
    for name, html in shown.items():
        joined = "\n".join(texts_of(html))
        rest = re.sub(r"⟦[^⟦⟧]*(⟦[^⟦⟧]*⟧[^⟦⟧]*)*⟧", "", joined)
        if left := [text for text in rest.splitlines() if not NO_WORDS.fullmatch(text.strip(" ·:"))]:
            bare[name] = left
    assert not bare, json.dumps(bare, indent=1, ensure_ascii=False)


GOOD_PO = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8\\n"\n\n'


@pytest.mark.parametrize(
    ("file", "id", "said"),
    [
        (
            'msgid "Need help? %(contact)s"\nmsgstr "Hilfe? %(kontakt)s"',
            "translation-broken",
            "there is no %(kontakt)s",
        ),
        ('msgid "Sign in"\nmsgstr "100 % sicher"', "translation-broken", "“Sign in”"),
        ('msgid "Sign in"\nmsgstr "Gr\udcfc\udcdf"', "translation-unreadable", "cannot be read"),
        ('msgid "Sign in"\nAnmelden', "translation-unreadable", "cannot be read"),
        (
            'msgid "Reset your %(site)s password"\nmsgstr "%(site)d"',
            "translation-broken",
            "there is no %(site)d",
        ),
        ('msgid "Sign in"\nmsgstr "An\\nmelden"', "translation-broken", "it contains a line break"),
        ('msgid "Show"\nmsgstr "\\"Zeigen\\" onfocus"', "translation-broken", "write “ and ”"),
        (
            'msgid "You have %(num)d left. New ones replace it."\n'
            'msgid_plural "You have %(num)d left. New ones replace them."\n'
            'msgstr[0] ""\nmsgstr[1] "%(nummer)d"',
            "translation-broken",
            "there is no %(nummer)d",
        ),
        (
            'msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=(n ? import);\\n"',
            "translation-unreadable",
            "cannot",
        ),
        (
            'msgid ""\nmsgstr "Content-Type: text/plain; charset=nonsense\\n"',
            "translation-unreadable",
            "cannot",
        ),
        ('msgid "Sign inn"\nmsgstr "Anmelden"', "translation-unused", "No page or email contains “Sign inn”"),
    ],
)
def test_what_is_wrong_with_an_admins_words_is_found(
    make_site: Any, tmp_path: Path, file: str, id: str, said: str
) -> None:
    head = "" if file.startswith('msgid ""') else GOOD_PO
    (tmp_path / "de.po").write_text(head + file + "\n", errors="surrogateescape")
    settings = load_settings(RECOVERY_TRANSLATION_DIR=str(tmp_path))
    with create_app(settings, checked=False).app_context():
        [finding] = list(translation_checks.check_translations())
    assert finding.id == id
    assert said in f"{finding.what} {finding.hint}"
    if finding.severity == "error":
        with pytest.raises(SettingsError, match=re.escape(str(tmp_path / "de.po"))):
            create_app(settings)
    else:
        create_app(settings)


def test_a_language_of_the_admins_that_lacks_texts_is_named(tmp_path: Path) -> None:
    folder = write_words(
        tmp_path / "words", "nl", **{"Sign in": "Inloggen", "Lost? Call %(number)s": "Kwijt?"}
    )
    templates = tmp_path / "templates" / "security"
    templates.mkdir(parents=True)
    (templates / "check_mail.html").write_text(
        '{% extends "shipped/security/check_mail.html" %}{{ _("Lost? Call %(number)s") }}'
    )
    own = {"RECOVERY_TRANSLATION_DIR": folder, "RECOVERY_TEMPLATE_DIR": str(tmp_path / "templates")}
    with create_app(load_settings(RECOVERY_LANGUAGES=["en", "nl"], **own)).app_context():
        [finding] = list(translation_checks.check_translations())
    assert finding.id == "translation-missing"
    assert re.match(r"3\d\d of 3\d\d texts are missing, such as “", finding.what)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"RECOVERY_LANGUAGES": ["en", "nl"]},
            "no file nl.po in RECOVERY_TRANSLATION_DIR; there is ar, de, en, es, fr",
        ),
        ({"RECOVERY_LANGUAGES": ["en", "de", "de"]}, "each at most once"),
        ({"RECOVERY_LANGUAGES": ["de"]}, "BABEL_DEFAULT_LOCALE"),
        ({"RECOVERY_LANGUAGES": []}, "give at least 1"),
        ({"RECOVERY_LANGUAGES": ["../../etc"]}, "give a language such as de"),
        ({"BABEL_DEFAULT_LOCALE": "klingon"}, "give a language such as de"),
        ({"BABEL_DEFAULT_TIMEZONE": "Mars/Olympus"}, "give a time zone such as UTC or Europe/Berlin"),
        ({"RECOVERY_ACCENT": "teal"}, "RECOVERY_ACCENT"),
        ({"RECOVERY_LOGO": "/nowhere/logo.svg"}, "no such file"),
        ({"RECOVERY_LOGO": __file__}, "give a picture that browsers show"),
    ],
)
def test_languages_and_looks_that_can_not_be_had_stop_the_start(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings(**given)


@pytest.mark.parametrize(
    "path",
    [
        "/login?language=%00",
        "/login?language=de&language=fr",
        "/login?language=" + "x" * 5000,
        "/login?language[]=de",
    ],
)
def test_whatever_is_asked_for_as_language_gets_a_page(site: Site, path: str) -> None:
    for asked in ("de" * 3000, "de;q=1e400", "de;q=nan", "de;q=-1", ",".join(["xx"] * 3000)):
        page = site.visitor().open(path, headers={"Accept-Language": asked})
        assert page.status_code == 200
        assert language_of(page) in ("en", "de")
        assert "x" * 20 not in page.headers.get("Set-Cookie", "")


def test_a_page_that_only_a_post_makes_has_no_switch(make_site: Any) -> None:
    """Whoever followed it would be told that this can not be done."""
    site: Site = make_site(
        SECURITY_UNIFIED_SIGNIN=True, SECURITY_TOTP_SECRETS={"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"}
    )
    page = site.visitor().submit("/us-signin", "/us-signin/send-code", identity="alice")
    assert page.status_code == 200
    assert "hreflang" not in page.text


def test_other_files_beside_templates_and_words_keep_nothing_from_starting(tmp_path: Path) -> None:
    folder = write_words(tmp_path / "words", "de", **{"Sign in": "Anmelden"})
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "logo.png").write_bytes(b"\x89PNG\r\n")
    (templates / "note").write_bytes("Grüße".encode("latin-1"))
    create_app(load_settings(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_TEMPLATE_DIR=str(templates)))
    (Path(folder) / "fr.po").mkdir()
    with pytest.raises(SettingsError, match=r"fr\.po.*cannot be read"):
        create_app(load_settings(RECOVERY_TRANSLATION_DIR=folder))


@pytest.mark.parametrize(
    ("asked", "spoken"),
    [
        ("zh-CN", "zh-Hans-CN"),
        ("zh", "zh-Hans-CN"),
        ("pt", "pt-BR"),
        ("pt-PT", "pt-BR"),
        ("de-CH-1996", "de"),
    ],
)
def test_browsers_leave_scripts_and_countries_out(
    make_site: Any, tmp_path: Path, asked: str, spoken: str
) -> None:
    for language in ("pt_BR", "zh_Hans_CN"):
        folder = write_words(tmp_path / "words", language, **{"Sign in": language})
    site: Site = make_site(
        RECOVERY_TRANSLATION_DIR=folder, RECOVERY_LANGUAGES=["en", "pt_BR", "zh_Hans_CN", "de"]
    )
    assert language_of(site.visitor().open("/login", headers={"Accept-Language": asked})) == spoken


def test_what_is_seen_once_is_not_lost_by_the_switch(site: Site) -> None:
    visitor = site.visitor()
    link = site.new_link()
    assert "hreflang" in visitor.open(link, follow_redirects=True).text
    visitor.set_password(link)
    done = visitor.open("/reset-done")
    assert "Your password is changed" in done.text
    assert "hreflang" not in done.text


def test_only_pages_keep_a_choice(site: Site) -> None:
    for path in ("/style.css?language=de", "/healthz?language=de"):
        assert "Set-Cookie" not in site.visitor().open(path).headers
    missing = site.visitor().open("/logo?language=de")
    assert missing.headers["Cache-Control"] == "no-store"


def test_what_a_setting_holds_is_no_html_in_a_refusal(make_site: Any) -> None:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="Help Desk <help@example.com>")
    page = site.visitor().submit("/login", "/reset", identity="alice")
    assert page.status_code == 503
    assert "Help Desk &lt;help@example.com&gt;" in page.text


def test_a_worker_of_the_version_before_sends_what_is_written(site: Site) -> None:
    """It knows of no language: a mail that Flask-Security has written rests as it always did."""
    with site.app.app_context():
        outbox.enqueue(outbox.RENDERED, recipient="alice@example.com", subject="A", text="B", html="")
        db.session.commit()
        message = db.session.scalars(select(OutboxMessage)).one()
        assert message.content.keys() == {"recipient", "subject", "text", "html"}
