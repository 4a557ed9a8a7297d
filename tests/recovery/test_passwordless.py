"""Accounts without a password: a request brings an explanation, a link to a first password, or nothing."""

from pathlib import Path
from typing import Any

import pytest
from support.application import Application
from support.commands import run
from support.features import REGISTRATION, confirm_addresses
from support.mailbox import html_of, link_in, text_of
from support.recovery import code_of, object_to
from support.redemption import redeem
from support.site import BOTH, NEW_PASSWORD, Site

from app.accounts import foreign_hashes
from app.accounts.datastore import end_access
from app.accounts.models import User
from app.db.engine import db
from app.pages import health

SSO = "sso@example.com"
HELP = "Sign in with your 100 % safe key at https://sso.example.com & smile"
SHOWN = "A request sends an email that says how to sign in, without a link"


def password_of(site: Site) -> Any:
    return next(row["password"] for row in site.rows(User) if row["email"] == SSO)


def ask_in_both_ways(site: Site) -> None:
    site.visitor().submit("/reset", identity=SSO)
    site.work()
    site.ask(SSO)
    site.work()


@pytest.mark.requirement("R18", "R55")
@BOTH
def test_explanation_says_how_to_sign_in_and_has_no_link(make_site: Any) -> None:
    quotas = {"RECOVERY_MAIL_COOLDOWN": "5 minutes", "RECOVERY_MAIL_HOURLY_MAX": 2}
    site: Site = make_site(RECOVERY_SIGN_IN_HELP=HELP, **quotas)
    ask_in_both_ways(site)
    [mail] = site.mailbox.mails
    assert mail["Subject"] == "How to sign in to Sparekey"
    assert HELP in text_of(mail).replace("\n", " ")
    assert '<a href="https://sso.example.com"' in html_of(mail)
    assert not any("/reset/" in part(mail) for part in (text_of, html_of))
    assert "RECOVERY_MAIL_COOLDOWN" in site.messages()[1]["reason"]
    shown = run(site, "users", "show", SSO).output
    assert SHOWN in shown
    assert "there was one;" in shown
    assert "The newest link" not in shown
    site.new_link("alice")
    with site.app.app_context():
        assert health.check()["problems"] == ["no_worker", "mail_budget_spent"]
        end_access(db.session.query(User).filter_by(email=SSO).one().id, with_password=True)
        db.session.commit()
    assert password_of(site) is None  # a hash that matches no password would let its mailbox recover it
    site.ask("bob")
    assert site.work() == 0


def test_explanation_without_help_leads_to_sign_in_and_is_translated(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site()
    ask_in_both_ways(site)
    assert f"{site.visitor().base}/login" in text_of(site.mailbox.mails[-1])
    (tmp_path / "de.po").write_text('msgid "Use your key."\nmsgstr "Nehmen Sie Ihren Schlüssel."\n')
    site = make_site(RECOVERY_SIGN_IN_HELP="Use your key.", RECOVERY_TRANSLATION_DIR=str(tmp_path))
    site.visitor().submit("/reset?language=de", identity=SSO)
    site.work()
    assert "Nehmen Sie Ihren Schlüssel." in text_of(site.mailbox.mails[-1])


@BOTH
@pytest.mark.requirement("R13")
@pytest.mark.parametrize("by", ["form", "json"])
def test_first_password_is_set_with_a_link_if_allowed(make_site: Any, by: str) -> None:
    site: Site = make_site(RECOVERY_PASSWORDLESS="allow")
    first, second, uri = site.new_link(SSO), site.new_link(SSO), site.app.config["SQLALCHEMY_DATABASE_URI"]
    no_longer_allowed = make_site(SQLALCHEMY_DATABASE_URI=uri)
    assert code_of(no_longer_allowed, first) == "account_unavailable"
    assert redeem(site, by, second)
    assert site.password_works(NEW_PASSWORD, SSO)
    assert code_of(site, first) == "link_superseded"
    site.work()
    assert "A new password was set for your Sparekey account" in site.mailbox.mails[-1]["Subject"]
    object_to(site, site.mailbox.mails[-1])
    assert not site.password_works(NEW_PASSWORD, SSO)


@pytest.mark.parametrize(("mode", "mails"), [("explain", 1), ("allow", 1), ("silent", 0)])
def test_sign_up_with_the_address_of_such_an_account(make_site: Any, mode: str, mails: int) -> None:
    site = confirm_addresses(make_site(**REGISTRATION, RECOVERY_PASSWORDLESS=mode))
    site.visitor().submit("/register", "/register", email=SSO)
    site.work()
    texts = [text_of(mail) for mail in site.mailbox.mails]
    assert ["You already have an account" in text for text in texts] == [True] * mails
    site.change(User, User.email == SSO, confirmed_at=None)
    site.visitor().submit("/register", "/register", email=SSO)
    site.work()
    assert ["/reset/" in text_of(mail) for mail in site.mailbox.mails[mails:]] == [True] * (mode == "allow")


@pytest.mark.parametrize(
    ("application", "stored"),
    [("sqlite", None), ("sqlite", ""), ("sqlite", "!unusable"), ("sqlite", "x"), ("postgresql", None)],
    indirect=["application"],
)
def test_account_of_an_application_follows_the_setting(
    application: Application, make_site: Any, stored: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(foreign_hashes.DEFAULTS, "bcrypt", f"$2b$10${'.' * 53}")  # takes less time
    application.execute("UPDATE users SET password = :stored WHERE id = 1", stored=stored)
    for mode in ("silent", "explain", "allow"):
        site: Site = make_site(**application.deployment(), RECOVERY_PASSWORDLESS=mode)
        site.ask()
        site.work()
        assert application.user()["password"] == stored
    subjects = [mail["Subject"].partition(" Sparekey")[0] for mail in site.mailbox.mails]
    assert subjects == ["How to sign in to", "Reset your"]
    assert redeem(site, "form", link_in(site.mailbox.mails[-1]))
    assert application.signs_in(NEW_PASSWORD)
