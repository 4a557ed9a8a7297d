"""`manage.py users reset-link`: an admin hands over a link, without mail."""

import json
import re
from typing import Any

import pytest
import zxingcpp
from support.commands import hand_over, run
from support.site import NEW_PASSWORD, Site

from app.accounts.models import User
from app.db.audit import RecoveryEvent


def read_qr_code(lines: list[str]) -> str:
    """Read it as a phone does. A line of text has two rows of modules; light ones are drawn."""
    rows = [[letter in light for letter in line] for line in lines for light in ("█▀", "█▄")]
    size = 8  # pixels of a module
    pixels = bytes(255 * module for row in rows for _ in range(size) for module in row for _ in range(size))
    picture = memoryview(pixels).cast("B", shape=[len(rows) * size, len(rows[0]) * size])
    [code] = zxingcpp.read_barcodes(picture)
    return str(code.text)


def test_reset_link_works_once(site: Site) -> None:
    link = hand_over(site)
    assert site.visitor().set_password(link).status_code == 302
    assert site.password_works(NEW_PASSWORD)
    assert "already been used" in site.visitor().open(link).text


@pytest.mark.requirement("R43")
def test_reset_link_event_has_admin_and_reason_without_token_or_address(site: Site) -> None:
    link = hand_over(site, reason="  lost the mailbox;\tI know  her voice, wrote from other@example.com ")
    [event] = site.rows(RecoveryEvent)
    assert event["kind"] == "admin"
    reason = r"users reset-link by \S+: lost the mailbox; I know her voice, wrote from \[address\]"
    assert re.fullmatch(reason, event["reason"])
    assert link.rpartition("/")[2] not in json.dumps([*site.links(), event], default=str)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 151])
def test_reset_link_needs_a_reason(site: Site, reason: str) -> None:
    result = run(site, "users", "reset-link", "alice", "--reason", reason, fails=True)
    assert result.exit_code == 2
    assert "give a reason of 1 to 150 characters" in result.output
    assert site.links() == []


@pytest.mark.parametrize(
    ("identity", "refusal"),
    [
        ("nobody@example.com", "no account has this identity"),
        ("inactive@example.com", "the account is not active"),
        ("sso@example.com", "it signs in another way"),
    ],
)
def test_reset_link_is_refused_for_account_that_cannot_recover(
    site: Site, identity: str, refusal: str
) -> None:
    assert refusal in run(site, "users", "reset-link", identity, "--reason", "asked", fails=True).output
    assert site.links() == []


def test_reset_link_confirms_no_address(make_site: Any) -> None:
    site: Site = make_site()
    link = hand_over(site)
    site.app.config["SECURITY_CONFIRMABLE"] = True
    site.app.extensions["security"].confirmable = True
    assert site.visitor().set_password(link).status_code == 302
    assert site.rows(User)[0]["confirmed_at"] is None


def test_reset_link_counts_for_no_quota_and_supersedes_others_when_used(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_DAILY_CAP=1)
    link = hand_over(site)
    assert "A reset email went out" not in run(site, "users", "show", "alice").output
    mailed = site.new_link()
    assert site.visitor().open(mailed).status_code == 303
    site.visitor().set_password(link)
    assert "A different link was used" in site.visitor().open(mailed).text


def test_reset_link_ends_when_the_address_changes(site: Site) -> None:
    link = hand_over(site)
    assert "was handed over by an admin, and works until" in run(site, "users", "show", "alice").output
    site.change(email="another@example.com")
    assert "canceled" in site.visitor().open(link).text
    assert "no longer works" in run(site, "users", "show", "another@example.com").output


def test_reset_link_as_qr_code_and_json(site: Site) -> None:
    output = run(site, "users", "reset-link", "alice", "--reason", "asked").output
    [link] = re.findall(r"^http\S+$", output, re.M)
    assert read_qr_code([line for line in output.splitlines() if set(line) & set("█▀▄")]) == link
    result = run(site, "users", "reset-link", "alice", "--reason", "asked", "--format", "json")
    handed_over = json.loads(result.output)
    assert handed_over["account"] == "alice@example.com"
    assert handed_over["expires_at"].endswith("Z")
    assert site.visitor().set_password(handed_over["link"]).status_code == 302
