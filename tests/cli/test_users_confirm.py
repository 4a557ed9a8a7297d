"""SECURITY_CONFIRMABLE is switched on for a site that has accounts; `users create` makes confirmed ones."""

from datetime import datetime
from typing import Any

from support.commands import run
from support.features import REGISTRATION
from support.site import BOTH, OLD_PASSWORD, Site

from app.accounts.models import User
from app.cli import database_checks
from app.db.audit import RecoveryEvent

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


def test_confirm_needs_an_account_or_all(site: Site) -> None:
    assert unconfirmed(site) is None  # because no address need be confirmed


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
