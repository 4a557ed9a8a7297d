"""`manage.py users invite` and `users import --invite`: an admin makes an account, its owner chooses the password."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.commands import hand_over, run
from support.features import REGISTRATION
from support.mailbox import html_of, text_of
from support.recovery import code_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.cli import database_checks
from app.db.audit import RecoveryEvent
from app.db.clock import utcnow
from app.mail.outbox import OutboxMessage
from app.pages import health
from app.recovery.link import ResetLink

CAROL = "carol@example.com"
INVITATION, WELCOME = "Set up your Sparekey account", "<h1>Choose a password</h1>"


def invite(site: Site, *words: str, subject: str = INVITATION) -> str:
    """Invite carol, work, and return the mailed link."""
    run(site, "users", "invite", f"email:{CAROL}", *words)
    site.work()
    assert site.mailbox.mails[-1]["Subject"] == subject
    return site.last_link()


def account(site: Site, email: str = CAROL) -> dict[str, Any]:
    return next(row for row in site.rows(User) if row["email"] == email)


def test_invited_user_chooses_a_password(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True)
    link = invite(site, "username:carol", "--name", " Carol\n <D>")
    [mail] = site.mailbox.mails
    assert "Hello Carol <D>," in text_of(mail)
    assert "Hello Carol &lt;D&gt;," in html_of(mail)
    assert "in 7 days" in " ".join(text_of(mail).split())
    visitor = site.visitor()
    assert WELCOME in visitor.open(link, follow_redirects=True).text
    done = visitor.open(visitor.set_password(link).location).text
    assert "<h1>Your password has been set</h1>" in done
    assert site.password_works(NEW_PASSWORD, "carol")
    assert account(site)["confirmed_at"]


@BOTH
def test_invitation_lives_for_its_time_works_once_and_is_recorded(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_INVITATION_WITHIN="30 days")
    first = invite(site)
    [link] = site.links()
    assert timedelta(days=29) < link["expires_at"] - link["issued_at"] <= timedelta(days=30, seconds=5)
    assert WELCOME in site.visitor().open(first, follow_redirects=True).text
    assert not site.password_works("", CAROL)
    assert "use --again" in run(site, "users", "invite", CAROL, fails=True).output
    run(site, "users", "invite", CAROL, "--again")
    site.work()
    assert "invited at" in run(site, "users", "show", CAROL).output
    second = site.last_link()
    assert code_of(site, second) == "redeemed"
    assert code_of(site, first) == "link_superseded"
    assert site.password_works(NEW_PASSWORD, CAROL)
    reasons = [row["reason"].split(" by ")[0] for row in site.rows(RecoveryEvent) if row["kind"] == "admin"]
    assert reasons == ["users invite", "users invite"]
    assert "has not used its invitation" in run(site, "users", "invite", CAROL, "--again", fails=True).output
    assert "--again" not in run(site, "users", "invite", CAROL, fails=True).output
    site.work()
    link_after = site.new_link(CAROL)
    assert site.mailbox.mails[-1]["Subject"] == "Reset your Sparekey password"
    assert WELCOME not in site.visitor().open(link_after, follow_redirects=True).text


@pytest.mark.requirement("R12", "R55")
@pytest.mark.parametrize(
    "settings", [{}, {"SECURITY_CONFIRMABLE": True}, {"RECOVERY_PASSWORDLESS": "silent"}]
)
def test_request_before_the_redemption_sends_the_invitation_again(make_site: Any, settings: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", **settings)
    first = invite(site)
    site.change(ResetLink, expires_at=utcnow(-1))
    assert code_of(site, first) == "link_expired"
    site.visitor().submit("/reset", identity=CAROL)
    site.work()
    assert [mail["Subject"] for mail in site.mailbox.mails] == [INVITATION] * 2
    answer = site.visitor().open(site.last_link(), headers={"Accept": "application/json"})
    assert answer.json["response"]["invited"] is True  # type: ignore[index]
    site.ask(CAROL)  # within the cool-down
    assert [site.work(), len(site.mailbox.mails)] == [1, 2]
    assert code_of(site, site.last_link()) == "redeemed"


def test_sign_up_with_an_invited_address_sends_the_invitation(make_site: Any) -> None:
    site: Site = make_site(**REGISTRATION)
    invite(site)
    run(site, "users", "confirm", "--all-existing")
    assert account(site)["confirmed_at"] is None
    site.visitor().submit("/register", "/register", email=CAROL)
    site.work()
    assert site.mailbox.mails[-1]["Subject"] == INVITATION
    assert code_of(site, site.last_link()) == "redeemed"
    assert account(site)["confirmed_at"]


def test_invitation_ends_with_a_restore_and_is_sent_again(site: Site) -> None:
    link = invite(site)
    run(site, "after-restore", "--yes")
    assert code_of(site, link) == "link_revoked"
    run(site, "users", "invite", CAROL, "--again")
    site.work()
    assert code_of(site, site.last_link()) == "redeemed"


def test_invitation_that_was_used_meanwhile_is_not_sent(site: Site) -> None:
    link = invite(site, "language:de", subject="Richten Sie Ihr Konto bei Sparekey ein")
    run(site, "users", "invite", CAROL, "--again")
    code_of(site, link)
    site.work()
    assert "the account already has a password" in {row["reason"] for row in site.messages()}


def test_invitation_without_mail_is_handed_over(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="help@example.com")
    assert f"users reset-link {CAROL}" in run(site, "users", "invite", CAROL).output
    assert WELCOME in site.visitor().open(hand_over(site, CAROL), follow_redirects=True).text
    (tmp_path / "users.csv").write_text("email\ndora@example.com\n")
    imported = run(site, "users", "import", str(tmp_path / "users.csv"), "--invite").output
    assert "1 of them need a link (users reset-link)" in imported


@BOTH
@pytest.mark.requirement("R56")
def test_import_invites_those_without_a_password_and_holds_up_no_reset(
    make_site: Any, tmp_path: Path
) -> None:
    site: Site = make_site(RECOVERY_MAIL_HOURLY_MAX=3, RECOVERY_MAIL_WAITING_MAX=4)
    known = account(site, "alice@example.com")["password"]
    rows = [{"email": f"user{number}@example.com"} for number in range(6)]
    rows.append({"email": "imported@example.com", "password_hash": known})
    file = tmp_path / "users.jsonl"
    rows.append({"email": "away@example.com", "active": "no"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = run(site, "users", "import", str(file), "--invite", "--from-flask-security").output
    assert imported == "8 accounts imported, 6 of them invited\n"
    site.change(OutboxMessage, created_at=utcnow(-3600))
    site.ask()
    site.work()
    subjects = [mail["Subject"] for mail in site.mailbox.mails]
    assert subjects == ["Reset your Sparekey password", *[INVITATION] * 3]
    with site.app.app_context():
        assert health.check()["problems"] == ["no_worker"]
    assert site.password_works(OLD_PASSWORD, "imported@example.com")
    assert code_of(site, site.last_link()) == "redeemed"


# --- Confirmed accounts: `users confirm` and `users create` ---

NOON = datetime(2026, 1, 31, 12)


def unconfirmed(site: Site) -> int | None:
    """Return the count in the finding of `check --deploy`, if there is one."""
    with site.app.app_context():
        whats = [finding.what for finding in database_checks.run() if finding.id == "accounts-unconfirmed"]
    return int(whats[0].split()[0]) if whats else None


@BOTH
def test_check_counts_existing_accounts_and_confirm_lets_them_in(make_site: Any) -> None:
    site: Site = make_site(**REGISTRATION)
    site.visitor().post_json("/register", json={"email": "new@example.com"})
    site.work()
    mails = len(site.mailbox.mails)
    assert not site.password_works(OLD_PASSWORD)
    assert unconfirmed(site) == 4
    assert unconfirmed(make_site()) is None  # no address need be confirmed
    assert run(site, "users", "confirm", "alice", "--quiet").output == "1 address confirmed\n"
    alice = site.visitor()
    assert alice.sign_in()
    site.change(confirmed_at=NOON)
    assert run(site, "users", "confirm", "alice").output == "0 addresses confirmed\n"
    assert unconfirmed(site) == 3
    assert run(site, "users", "confirm", "--all-existing").output == "3 addresses confirmed\n"
    assert site.password_works(OLD_PASSWORD, "bob")
    assert unconfirmed(site) is None
    assert alice.is_signed_in()
    rows = [row for row in site.rows(RecoveryEvent) if row["kind"] == "account_changed"]
    assert [(row["user_id"], row["reason"]) for row in rows] == [(n, "added confirmed") for n in (1, 2, 3, 4)]
    site.work()
    assert len(site.mailbox.mails) == mails  # no mass mailing
    of_alice, *_, sign_up = site.rows(User)
    assert of_alice["confirmed_at"] == NOON
    assert (sign_up["email"], sign_up["confirmed_at"]) == ("new@example.com", None)


@BOTH
def test_users_create_takes_a_time(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True)
    for typed, stored in {
        "20260131T140000+0200": NOON,
        "20260131T120000": NOON,
        "2026-01-31": datetime(2026, 1, 31),
    }.items():
        name = f"dora{typed[:8]}{typed[9:11]}@example.com"
        words = (name, f"confirmed_at:{typed}", f"create_datetime:{typed}", "--password", OLD_PASSWORD)
        run(site, "users", "create", *words, "--active")
        row = site.rows(User)[-1]
        assert (row["confirmed_at"], row["create_datetime"]) == (stored, stored)
    assert site.password_works(OLD_PASSWORD, name)
