"""The language of a mail: the account's own, or else the requester's, or else the default."""

import re
from email.message import EmailMessage
from typing import Any

import pytest
from flask import template_rendered
from flask.testing import FlaskCliRunner
from flask_babel import get_locale
from support.mailbox import html_of, text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

import manage
from app.accounts.models import User
from app.db import encryption
from app.db.engine import db
from app.recovery import not_me


def language_of(mail: EmailMessage) -> str:
    return re.search(r'<html lang="([\w-]+)" dir="ltr">', html_of(mail))[1]  # type: ignore[index]


def mail_for(site: Site, language: str | None) -> EmailMessage:
    """Ask in a language, and return the mail."""
    headers = {"Accept-Language": language} if language else {}
    site.visitor().post_json("/reset", json={"identity": "alice"}, headers=headers)
    site.work()
    return site.mailbox.mails[-1]


def mail_after_form(site: Site, language: str, path: str, **fields: str) -> EmailMessage:
    """Submit a form as alice, who reads the pages in a language, and return the mail."""
    alice = site.visitor()
    alice.sign_in()
    alice.open(f"/login?language={language}")
    alice.submit(path, **fields)
    site.work()
    return site.mailbox.mails[-1]


CHANGE = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}


def test_mail_is_in_the_requesters_language(site: Site) -> None:
    mail = mail_for(site, "de-AT, de;q=0.9, en;q=0.5")
    assert language_of(mail) == "de"
    assert "Passwort" in mail["Subject"]
    assert all("1 Stunde" in " ".join(part.split()) for part in (text_of(mail), html_of(mail)))


def test_mail_is_in_the_accounts_language_if_it_is_offered(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_LANGUAGES=["en", "de", "fr"])
    site.change(language="fr")
    assert language_of(mail_for(site, "de")) == "fr"
    site.change(language="es")
    assert language_of(mail_for(site, "de")) == "de"


@pytest.mark.parametrize("language", ["it", "xx-nonsense", None])
def test_mail_is_in_the_default_language_if_none_fits(make_site: Any, language: str | None) -> None:
    for default in ("en", "de"):
        assert language_of(mail_for(make_site(BABEL_DEFAULT_LOCALE=default), language)) == default


def test_mail_in_a_language_that_is_no_longer_offered_is_in_the_default(make_site: Any) -> None:
    before: Site = make_site()
    before.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Accept-Language": "fr"})
    uri = before.app.config["SQLALCHEMY_DATABASE_URI"]
    now: Site = make_site(RECOVERY_LANGUAGES=["en", "de"], SQLALCHEMY_DATABASE_URI=uri)
    now.work()
    assert language_of(now.mailbox.mails[-1]) == "en"


def test_mail_of_an_earlier_version_without_language_is_in_the_default(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    decrypt = encryption.decrypt

    def without_language(sealed: str | None) -> dict[str, Any]:
        return {name: value for name, value in decrypt(sealed).items() if name != "language"}

    monkeypatch.setattr(encryption, "decrypt", without_language)
    assert language_of(mail_for(site, "de")) == "en"


def test_reset_notice_is_in_the_accounts_language(site: Site) -> None:
    link = site.new_link()
    site.change(language="de")
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    site.visitor().post_json(link, json=body, headers={"Accept-Language": "fr"})
    site.work()
    mail = site.mailbox.mails[-1]
    assert language_of(mail) == "de"
    assert "Passwort" in mail["Subject"]
    assert re.search(r"\d+\. \w+ 20\d\d, \d\d:\d\d:\d\d UTC", text_of(mail).replace(" um ", ", "))


@pytest.mark.parametrize(("own", "page", "language"), [(None, "de", "de"), ("fr", "de", "fr")])
def test_flask_security_mail_is_in_the_accounts_language(
    site: Site, own: str | None, page: str, language: str
) -> None:
    site.change(language=own)
    assert language_of(mail_after_form(site, page, "/change", **CHANGE)) == language


def test_flask_security_mail_translates_its_subject_and_duration(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, SECURITY_CHANGE_EMAIL_WITHIN="3 hours")
    site.change(language="de")
    mail_after_form(site, "fr", "/change-email", email="new@example.com")
    mail = site.mailbox.mails[0]  # the last one is the notice to the old address
    assert (mail["To"], language_of(mail)) == ("new@example.com", "de")
    assert "Adresse" in mail["Subject"]
    assert "3 Stunden" in " ".join(text_of(mail).split())


def test_flask_security_mail_is_rendered_once(site: Site) -> None:
    rendered: list[str | None] = []
    with template_rendered.connected_to(lambda _app, template, **_: rendered.append(template.name), site.app):
        mail_after_form(site, "de", "/change", **CHANGE)
    assert [rendered.count(f"security/email/change_notice.{part}") for part in ("txt", "html")] == [1, 1]


def test_flask_security_mail_keeps_the_admins_subject(make_site: Any) -> None:
    subject = "100 % new at %(site)s"
    site: Site = make_site(SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE=subject, RECOVERY_SITE_NAME="Lagoon")
    assert mail_after_form(site, "de", "/change", **CHANGE)["Subject"] == "100 % new at Lagoon"


def test_mail_to_the_operator_is_in_the_default_language(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_OPERATOR="op@example.com", BABEL_DEFAULT_LOCALE="de")
    with site.app.test_request_context(headers={"Accept-Language": "fr"}):
        assert str(get_locale()) == "fr"
        not_me.alert_operator(1)
        db.session.commit()
    site.work()
    [mail] = site.mailbox.mails
    assert (mail["To"], language_of(mail)) == ("op@example.com", "de")
    assert "Aufmerksamkeit" in mail["Subject"]


def test_account_is_created_with_a_language(site: Site) -> None:
    def create(email: str, language: str) -> Any:
        command = ["users", "create", email, f"language:{language}", "--password", OLD_PASSWORD, "--active"]
        return FlaskCliRunner(site.app).invoke(manage.cli, command)

    assert create("dora@example.com", "pt-br").exit_code == 0
    with site.app.app_context():
        assert db.session.query(User.language).filter_by(email="dora@example.com").scalar() == "pt_BR"
    refused = create("eva@example.com", "klingon")
    assert refused.exit_code != 0
    assert "give a language such as de" in refused.output
    shown = FlaskCliRunner(site.app).invoke(manage.cli, ["users", "show", "dora@example.com"]).output
    assert re.search(r"language\s+pt_BR", shown)
