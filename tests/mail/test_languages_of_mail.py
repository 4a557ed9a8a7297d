"""In which language a mail is, and what becomes of templates when it is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskCliRunner
from flask_babel import get_locale
from looks.elements import elements_of
from support.mailbox import html_of, text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

import manage
from app import create_app
from app.accounts.models import User
from app.db import encryption
from app.db.engine import db
from app.mail import composing
from app.pages import samples
from app.recovery import not_me
from app.web import i18n

GERMAN = {
    "Reset your %(site)s password": "Neues Passwort für %(site)s",
    "Hello,": "Guten Tag,",
    "Somebody, most likely you, asked for a new password for your account at %(site)s.": "Für Ihr Konto bei"
    " %(site)s wurde ein neues Passwort angefordert.",
    "The link works once, within %(within)s.": "Der Link gilt einmal, und zwar für %(within)s.",
    "Your %(site)s password was changed": "Ihr Passwort für %(site)s wurde geändert",
    "Confirm your new address for %(site)s": "Ihre neue Adresse für %(site)s",
    "The code works once, within %(within)s.": "Der Code gilt %(within)s.",
    "When:": "Wann:",
    "%(site)s: please look at this": "%(site)s: bitte ansehen",
    "Somebody says that a change of their account was not theirs.": "Jemand war es nicht.",
}
FRENCH = {"Hello,": "Bonjour,"}


def catalogue(texts: dict[str, str]) -> str:
    entries = {"": "Content-Type: text/plain; charset=UTF-8\\n", **texts}
    return "\n\n".join(f'msgid "{text}"\nmsgstr "{said}"' for text, said in entries.items())


@pytest.fixture
def speaks(make_site: Callable[..., Site], tmp_path: Path) -> Callable[..., Site]:
    """Makes a site that knows some German and a word of French."""
    (tmp_path / "de.po").write_text(catalogue(GERMAN))
    (tmp_path / "fr.po").write_text(catalogue(FRENCH))

    def make(**overrides: Any) -> Site:
        return make_site(RECOVERY_TRANSLATION_DIR=str(tmp_path), **overrides)

    return make


def asks(site: Site, language: str | None) -> Any:
    headers = {"Accept-Language": language} if language else {}
    site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
    site.work()
    return site.mailbox.mails[-1]


def tells(site: Site, language: str, path: str, **fields: str) -> Any:
    """The mail that a form brings about, of somebody who is signed in and reads the pages in this language."""
    alice = site.visitor()
    alice.sign_in()
    alice.open(f"/login?language={language}")
    alice.submit(path, **fields)
    site.work()
    return site.mailbox.mails[-1]


def changes(site: Site, language: str) -> Any:
    fields = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    return tells(site, language, "/change", **fields)


def test_a_mail_is_in_the_language_in_which_it_was_asked_for(speaks: Callable[..., Site]) -> None:
    mail = asks(speaks(), "de-AT, de;q=0.9, en;q=0.5")
    assert mail["Subject"] == "Neues Passwort für Sparekey"
    assert text_of(mail).split()[:6] == ["Guten", "Tag,", "Für", "Ihr", "Konto", "bei"]
    assert "für 1 Stunde." in " ".join(text_of(mail).split())
    assert '<html lang="de" dir="ltr">' in html_of(mail)
    assert "für 1 Stunde." in html_of(mail)


def test_the_last_one_to_ask_decides(speaks: Callable[..., Site]) -> None:
    site = speaks()
    for language in ("fr", "de"):
        site.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Accept-Language": language})
    site.work()
    assert [text_of(mail)[:10] for mail in site.mailbox.mails] == ["Guten Tag,"]


def test_an_accounts_own_language_wins(speaks: Callable[..., Site]) -> None:
    site = speaks()
    site.change(language="fr")
    assert text_of(asks(site, "de")).startswith("Bonjour,")
    site.change(language="it")  # no longer offered
    assert text_of(asks(site, "de")).startswith("Guten Tag,")


@pytest.mark.parametrize("language", ["it", "xx-nonsense", None])
def test_who_asks_for_another_language_gets_the_default(
    speaks: Callable[..., Site], language: str | None
) -> None:
    assert text_of(asks(speaks(), language)).startswith("Hello,")
    assert text_of(asks(speaks(BABEL_DEFAULT_LOCALE="de"), language)).startswith("Guten Tag,")


def test_a_language_that_is_offered_no_longer_falls_back(speaks: Callable[..., Site]) -> None:
    before = speaks()
    before.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Accept-Language": "fr"})
    uri = before.app.config["SQLALCHEMY_DATABASE_URI"]
    now = speaks(RECOVERY_LANGUAGES=["en", "de"], SQLALCHEMY_DATABASE_URI=uri)
    now.work()
    assert text_of(now.mailbox.mails[-1]).startswith("Hello,")


def test_a_message_of_an_older_version_is_in_the_default_language(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = encryption.decrypt

    def without_language(sealed: str | None) -> dict[str, Any]:
        return {name: value for name, value in opened(sealed).items() if name != "language"}

    monkeypatch.setattr(encryption, "decrypt", without_language)
    assert text_of(asks(site, "de")).startswith("Hello,")


def test_the_notice_is_in_the_accounts_language(speaks: Callable[..., Site]) -> None:
    site = speaks()
    link = site.new_link()
    site.change(language="de")
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    site.visitor().post_json(link, json=body, headers={"Accept-Language": "fr"})
    site.work()
    mail = site.mailbox.mails[-1]
    assert mail["Subject"] == "Ihr Passwort für Sparekey wurde geändert"
    assert re.search(r"Wann: \d+\. \w+ 20\d\d, \d\d:\d\d:\d\d UTC", text_of(mail).replace(" um ", ", "))


@pytest.mark.parametrize(("own", "page", "greeting"), [(None, "de", "Guten Tag,"), ("fr", "de", "Bonjour,")])
def test_what_flask_security_writes_is_in_the_accounts_language(
    speaks: Callable[..., Site], own: str | None, page: str, greeting: str
) -> None:
    site = speaks()
    site.change(language=own)
    mail = changes(site, page)
    assert text_of(mail).startswith(greeting)
    assert f'<html lang="{own or page}"' in html_of(mail)


def test_its_subject_and_times_are_said_again_too(speaks: Callable[..., Site]) -> None:
    site = speaks(SECURITY_CHANGE_EMAIL=True, SECURITY_CHANGE_EMAIL_WITHIN="3 hours")
    site.change(language="de")
    mail = tells(site, "fr", "/change-email", email="new@example.com")
    assert mail["To"] == "new@example.com"
    assert mail["Subject"] == "Ihre neue Adresse für Sparekey"
    assert "für 3 Stunden." in text_of(mail)


def test_whoever_sets_a_subject_has_it(speaks: Callable[..., Site]) -> None:
    mine = "100 % new at %(site)s"
    site = speaks(SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE=mine, RECOVERY_SITE_NAME="Lagoon")
    assert changes(site, "de")["Subject"] == "100 % new at Lagoon"


def test_the_operator_reads_the_default_language(speaks: Callable[..., Site]) -> None:
    site = speaks(RECOVERY_OPERATOR="op@example.com", BABEL_DEFAULT_LOCALE="de")
    with site.app.test_request_context(headers={"Accept-Language": "fr"}):
        assert str(get_locale()) == "fr"
        not_me.alert_operator(1)
        db.session.commit()
    site.work()
    mail = site.mailbox.mails[-1]
    assert mail["Subject"] == "Sparekey: bitte ansehen"
    assert "Jemand war es nicht." in text_of(mail)


def test_an_account_is_made_with_a_language(site: Site) -> None:
    def creates(email: str, language: str) -> Any:
        command = ["users", "create", email, f"language:{language}", "--password", OLD_PASSWORD, "--active"]
        return FlaskCliRunner(site.app).invoke(manage.cli, command)

    assert creates("dora@example.com", "pt-br").exit_code == 0
    with site.app.app_context():
        assert db.session.query(User.language).filter_by(email="dora@example.com").scalar() == "pt_BR"
    refused = creates("eva@example.com", "klingon")
    assert refused.exit_code != 0
    assert "give a language such as de" in refused.output
    shown = FlaskCliRunner(site.app).invoke(manage.cli, ["users", "show", "dora@example.com"]).output
    assert re.search(r"language\s+pt_BR", shown)


def test_a_preview_is_in_any_language(speaks: Callable[..., Site], tmp_path: Path) -> None:
    file = tmp_path / "mails.html"
    command = ["mail", "preview", "--language", "de", "--output", str(file)]
    ended = FlaskCliRunner(speaks().app).invoke(manage.cli, command)
    assert ended.exit_code == 0, ended.output
    assert "Guten Tag," in file.read_text()
    command[3] = "it"
    refused = FlaskCliRunner(speaks().app).invoke(manage.cli, command)
    assert refused.exit_code != 0
    assert "RECOVERY_LANGUAGES" in refused.output


@pytest.mark.parametrize(
    ("text", "wrapped"),
    [
        ("a " * 50, ("a " * 36).strip() + "\n" + ("a " * 14).strip() + "\n"),
        ("see " + "https://x.example/" + "y-" * 60, "see\nhttps://x.example/" + "y-" * 60 + "\n"),
        ("\n\none\n\n \n\n\ntwo\n", "one\n\ntwo\n"),
        ("- " + "bb " * 30, "- " + ("bb " * 23).strip() + "\n  " + ("bb " * 7).strip() + "\n"),
        ("When: now\nWhere: here", "When: now\nWhere: here\n"),
        (" \n", ""),
    ],
)
def test_text_is_wrapped_at_blanks(text: str, wrapped: str) -> None:
    assert composing.wrap(text) == wrapped


@pytest.fixture
def sent() -> dict[str, composing.Mail]:
    """Every mail, as it is sent."""
    given = {
        "RECOVERY_SUPPORT_CONTACT": "help@example.com",
        "RECOVERY_SITE_NAME": "A Site with a Longer Name",
    }
    app = create_app(load_settings(**given), checked=False)
    with app.app_context(), samples.request_context():
        return {mail.name: samples.compose(mail) for mail in samples.MAILS}


def test_no_line_of_text_is_long_and_every_sentence_begins_large(sent: dict[str, composing.Mail]) -> None:
    for name, letter in sent.items():
        assert letter.body.startswith("Hello,\n\n"), name
        assert "\n\n\n" not in letter.body, name
        for line in letter.body.splitlines():
            assert len(line) <= composing.COLUMNS_MAX or "://" in line, (name, line)
        for paragraph in letter.body.split("\n\n")[1:]:
            assert paragraph[0].isupper() or paragraph.split()[0] in letter.html, (name, paragraph)


def test_every_class_is_styled_where_it_stands(sent: dict[str, composing.Mail]) -> None:
    for name, letter in sent.items():
        for element in elements_of(letter.html):
            if element.attributes.get("class"):
                assert element.attributes.get("style"), (name, element)
        assert letter.html.count("@media (prefers-color-scheme: dark)") == 1, name
        assert letter.html.count("@media (min-width: 600px)") == 1, name
        [style] = re.findall(r"<style>(@media.*?)</style>", letter.html, re.DOTALL)
        assert not re.sub(r"@media [^{]+\{([^{}]+\{[^{}]+\})+\s*\}", "", style).strip(), name


def test_nothing_is_loaded_and_outlook_is_told_how_wide(sent: dict[str, composing.Mail]) -> None:
    for name, letter in sent.items():
        assert not re.search(r"<(img|link|script|iframe)\b|\bsrc=|url\(|@import|@font-face", letter.html), (
            name
        )
        assert letter.html.count("<!--[if mso]>") == letter.html.count("<![endif]-->") == 3, name
        assert '<!--[if mso]><table role="presentation" width="560"' in letter.html
        assert re.search(
            r'<div class="preheader" style="display:none;[^"]*mso-hide:all[^"]*">[^<]+</div>', letter.html
        )


def test_a_button_and_the_bare_link_below_it_are_one(sent: dict[str, composing.Mail]) -> None:
    seen = 0
    for name, letter in sent.items():
        buttons = re.findall(r'<td class="press[^>]*><a href="([^"]+)"', letter.html)
        bare = re.findall(r'<p class="bare"[^>]*>[^<]+<br>\s*<a href="([^"]+)"[^>]*>([^<]+)</a>', letter.html)
        assert bare == [(url, url) for url in buttons], name
        assert all(url in letter.body for url in buttons), name
        assert len(buttons) <= 1, name
        seen += len(buttons)
    assert seen >= 8


def test_a_mail_that_is_written_from_right_to_left() -> None:
    app = create_app(load_settings(), checked=False)
    with app.app_context(), i18n.use_language("ar"):
        html = samples.compose(samples.MAILS[1]).html
    assert '<html lang="ar" dir="rtl">' in html
    assert re.search(r'<td class="card"[^>]*text-align:right', html)
    assert re.search(r'<a [^>]*dir="ltr"[^>]*>http', html)
    assert "padding-left:16px" in html


def test_the_accent_colours_the_button() -> None:
    app = create_app(load_settings(RECOVERY_ACCENT="#ffd400"), checked=False)
    with app.app_context():
        html = samples.compose(samples.MAILS[0]).html
    assert re.search(r'<td class="press" bgcolor="#ffd400"[^>]*background-color:#ffd400', html)
    assert re.search(r'<a href="[^"]+" style="[^"]*color:#000000', html)


def test_a_mail_of_ones_own_gets_the_styles_too(make_site: Callable[..., Site], tmp_path: Path) -> None:
    folder = tmp_path / "security" / "email"
    folder.mkdir(parents=True)
    (folder / "reset_instructions.html").write_text(
        '{% extends "security/email/_layout.html" %}{% from "security/email/_macros.html" import button %}'
        "{% block content %}<h1>Ahoy</h1>"
        '{{ button(url_for("security.reset_password", token=reset_token, _external=True), "Aye") }}{% endblock %}'
    )
    site = make_site(RECOVERY_TEMPLATE_DIR=str(tmp_path), RECOVERY_SILENCED=["template-without-objection"])
    html = html_of(asks(site, None))
    assert re.search(r'<h1 style="[^"]+">Ahoy</h1>', html)
    assert re.search(r'<td class="press"[^>]+><a href="[^"]+" style="[^"]*display:block[^"]*">Aye</a>', html)


def test_times_are_in_the_admins_zone_and_say_so() -> None:
    app = create_app(load_settings(BABEL_DEFAULT_TIMEZONE="Europe/Berlin"), checked=False)
    with app.app_context():
        said = i18n.moment(datetime.fromisoformat("2026-02-28T14:05:00+00:00"))
    assert said.replace("\u202f", " ") == "February 28, 2026, 3:05:00 PM +0100"
