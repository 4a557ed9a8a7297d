"""The language of a mail: the account's own, or else the requester's, or else the default."""

import re
from email.message import EmailMessage
from typing import Any

import pytest
from support.commands import run
from support.database import database_uri
from support.mailbox import html_of, text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.db.engine import db
from app.recovery import not_me

GERMAN = {"BABEL_DEFAULT_LOCALE": "de"}
THREE = {"RECOVERY_LANGUAGES": ["en", "de", "fr"]}


def language_of(mail: EmailMessage) -> str:
    return re.search(r'<html lang="([\w-]+)" dir="ltr">', html_of(mail))[1]  # type: ignore[index]


def submit(site: Site, language: str, path: str, **fields: str) -> None:
    """Submit a form as alice, who reads the pages in a language, and work."""
    alice = site.visitor()
    alice.sign_in()
    alice.open(f"/login?language={language}")
    alice.submit(path, **fields)
    site.work()


@pytest.mark.parametrize(
    ("settings", "own", "accepted", "language"),
    [
        ({}, None, "de-AT, de;q=0.9, en;q=0.5", "de"),
        (THREE, "fr", "de", "fr"),
        (THREE, "es", "de", "de"),  # it is no longer offered
        (GERMAN, None, "it", "de"),
        (GERMAN, None, "", "de"),
    ],
)
def test_mail_is_in_the_accounts_language_or_the_requesters_or_the_default(
    make_site: Any, settings: dict[str, Any], own: str | None, accepted: str, language: str
) -> None:
    site: Site = make_site(**settings)
    site.change(language=own)
    site.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Accept-Language": accepted})
    site.work()
    [mail] = site.mailbox.mails
    assert language_of(mail) == language
    if language == "de":
        assert "Passwort" in mail["Subject"]
        assert all("1 Stunde" in " ".join(part.split()) for part in (text_of(mail), html_of(mail)))


def test_mail_in_a_language_that_is_no_longer_offered_is_in_the_default(make_site: Any) -> None:
    before: Site = make_site()
    before.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Accept-Language": "fr"})
    now: Site = make_site(RECOVERY_LANGUAGES=["en", "de"], SQLALCHEMY_DATABASE_URI=database_uri(before))
    now.work()
    assert language_of(now.mailbox.mails[-1]) == "en"


def test_notice_of_a_reset_is_in_the_accounts_language(site: Site) -> None:
    link = site.new_link()
    site.change(language="de")
    site.visitor().post_json(link, json={"password": NEW_PASSWORD}, headers={"Accept-Language": "fr"})
    site.work()
    mail = site.mailbox.mails[-1]
    assert (language_of(mail), "Passwort" in mail["Subject"]) == ("de", True)
    assert re.search(r"\d+\. \w+ 20\d\d, \d\d:\d\d:\d\d UTC", text_of(mail).replace(" um ", ", "))


def test_flask_security_mail_translates_its_subject_and_duration(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, SECURITY_CHANGE_EMAIL_WITHIN="3 hours")
    site.change(language="de")
    submit(site, "fr", "/change-email", email="new@example.com")
    mail = site.mailbox.mails[0]  # the last one is the notice to the old address
    assert (mail["To"], language_of(mail)) == ("new@example.com", "de")
    assert "Adresse" in mail["Subject"]
    assert "3 Stunden" in " ".join(text_of(mail).split())


def test_flask_security_mail_is_in_the_pages_language_and_keeps_the_admins_subject(make_site: Any) -> None:
    subject = "100 % new at %(site)s"
    site: Site = make_site(SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE=subject, RECOVERY_SITE_NAME="Lagoon")
    new = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    submit(site, "de", "/change", password=OLD_PASSWORD, **new)
    mail = site.mailbox.mails[-1]
    assert (language_of(mail), mail["Subject"]) == ("de", "100 % new at Lagoon")


def test_mail_to_the_operator_is_in_the_default_language(make_site: Any) -> None:
    site: Site = make_site(**GERMAN, RECOVERY_OPERATOR="Betreiber Müller <op@example.com>")
    with site.app.test_request_context(headers={"Accept-Language": "fr"}):
        not_me.alert_operator(1)
        db.session.commit()
    site.work()
    [mail] = site.mailbox.mails
    assert (mail["To"], language_of(mail)) == ("op@example.com", "de")
    assert site.mailbox.envelopes == [["op@example.com"]]
    assert "Aufmerksamkeit" in mail["Subject"]


def test_account_is_created_with_a_language(site: Site) -> None:
    password = ("--password", OLD_PASSWORD, "--active")
    run(site, "users", "create", "dora@example.com", "language:pt-br", *password)
    assert site.rows(User)[-1]["language"] == "pt_BR"
    refusal = run(site, "users", "create", "eva@example.com", "language:klingon", *password, fails=True)
    assert "give a language such as de" in refusal.output
    assert re.search(r"language\s+pt_BR", run(site, "users", "show", "dora@example.com").output)
