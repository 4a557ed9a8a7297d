"""An admin's links: `users send-reset`, `force-reset` and `reset-link` make them, `links revoke` ends them."""

import json
import re
from typing import Any

import pytest
import zxingcpp
from support.commands import hand_over, run
from support.mailbox import link_in
from support.outbox import beat, make_due, states
from support.recovery import code_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.db.audit import RecoveryEvent
from app.mail.outbox import OutboxMessage
from app.mail.smtp_failures import MailHeld

QUOTAS = {"RECOVERY_MAIL_COOLDOWN": "5 minutes", "RECOVERY_MAIL_DAILY_CAP": 1}
SENDS = pytest.mark.parametrize("command", ["send-reset", "force-reset"])


# --- By mail ---


@BOTH
@SENDS
@pytest.mark.requirement("R43", "R58")
def test_link_of_an_admin_passes_cooldown_and_cap_and_changes_none(make_site: Any, command: str) -> None:
    site: Site = make_site(**QUOTAS)

    def send() -> str:
        """Send twice before the worker comes, and return the link of the one mail."""
        for _ in range(2):
            run(site, "users", command, "alice")
        assert "email is waiting for its first attempt" in run(site, "users", "show", "alice").output
        mails = len(site.mailbox.mails)
        site.work()
        [link] = [link_in(mail) for mail in site.mailbox.mails[mails:] if "Reset" in mail["Subject"]]
        return link

    send()
    site.new_link()  # the owner's first
    send()
    link, mails = send(), len(site.mailbox.mails)
    site.ask()  # within the owner's cool-down, unless the reset has ended the owner's link
    assert (site.work(), len(site.mailbox.mails)) == (1, mails + (command == "force-reset"))
    assert code_of(site, link, "three foxes took the eggs") == "redeemed"


@BOTH
def test_message_that_an_admin_retries_passes_cooldown_and_cap(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="0 seconds", RECOVERY_MAIL_DAILY_CAP=1)
    site.new_link()
    site.ask()
    site.work()
    assert states(site) == [("sent", 1), ("waiting", 0)]  # postponed
    run(site, "outbox", "retry", "2")
    site.work()
    assert states(site) == [("sent", 1), ("sent", 1)]


def test_force_reset_ends_password_sessions_and_links_and_mails_another(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    visitor, earlier = site.visitor(), site.new_link()
    visitor.sign_in()
    assert "signed out everywhere" in run(site, "users", "force-reset", "#1").output
    assert not site.password_works(OLD_PASSWORD)
    assert visitor.open("/").location == "/login"
    assert "canceled" in visitor.open(earlier).text
    site.work()  # within the cool-down
    link, notice = site.mailbox.mails[-2:]
    assert (link["To"], notice["Subject"]) == ("alice@example.com", "Your Sparekey password was changed")
    assert code_of(site, link_in(link)) == "redeemed"
    reasons = [row["reason"] for row in site.rows(RecoveryEvent) if row["kind"] == "admin"]
    assert [reason.partition(" by ")[0] for reason in reasons] == ["users force-reset"]


@SENDS
def test_link_that_cannot_be_mailed_is_refused_and_changes_nothing(site: Site, command: str) -> None:
    beat(site, trouble="MAIL_PASSWORD: the relay refuses it")
    accounts, browser = site.rows(User), site.visitor()
    browser.sign_in()
    output = run(site, "users", command, "alice", fails=True).output
    assert "MAIL_PASSWORD: the relay refuses it. Nothing was changed." in output
    assert browser.is_signed_in()
    assert (site.rows(User), site.rows(OutboxMessage), site.events().count("admin")) == (accounts, [], 0)


# --- Handed over ---


def read_qr_code(lines: list[str]) -> str:
    """Read it as a phone does. A line of text has two rows of modules; light ones are drawn."""
    rows = [[letter in light for letter in line] for line in lines for light in ("█▀", "█▄")]
    size = 8  # pixels of a module
    pixels = bytes(255 * module for row in rows for _ in range(size) for module in row for _ in range(size))
    picture = memoryview(pixels).cast("B", shape=[len(rows) * size, len(rows[0]) * size])
    [code] = zxingcpp.read_barcodes(picture)
    return str(code.text)


@pytest.mark.requirement("R43")
def test_reset_link_event_has_admin_and_reason_without_token_or_address(site: Site) -> None:
    link = hand_over(site, reason="  lost the mailbox;\tI know  her voice, wrote from other@example.com ")
    [event] = site.rows(RecoveryEvent)
    assert event["kind"] == "admin"
    reason = r"users reset-link by \S+: lost the mailbox; I know her voice, wrote from \[address\]"
    assert re.fullmatch(reason, event["reason"])
    assert link.rpartition("/")[2] not in json.dumps([*site.links(), event], default=str)
    assert "was handed over by an admin, and works until" in run(site, "users", "show", "alice").output
    site.change(email="another@example.com")
    assert "canceled" in site.visitor().open(link).text
    assert "no longer works" in run(site, "users", "show", "another@example.com").output


def test_reset_link_counts_for_no_quota_and_supersedes_others_when_used(make_site: Any) -> None:
    site: Site = make_site(**QUOTAS)
    link = hand_over(site)
    assert "A reset email went out" not in run(site, "users", "show", "alice").output
    mailed = site.new_link()
    assert site.visitor().open(mailed).status_code == 303
    site.app.config["SECURITY_CONFIRMABLE"] = site.app.extensions["security"].confirmable = True
    assert site.visitor().set_password(link).status_code == 302
    assert site.rows(User)[0]["confirmed_at"] is None  # no mail has proven the address
    assert "A different link was used" in site.visitor().open(mailed).text
    assert "already been used" in site.visitor().open(link).text


def test_reset_link_as_qr_code_and_json(site: Site) -> None:
    output = run(site, "users", "reset-link", "alice", "--reason", "asked").output
    [link] = re.findall(r"^http\S+$", output, re.M)
    assert read_qr_code([line for line in output.splitlines() if set(line) & set("█▀▄")]) == link
    result = run(site, "users", "reset-link", "alice", "--reason", "asked", "--format", "json")
    handed_over = json.loads(result.output)
    assert (handed_over["account"], handed_over["expires_at"][-1]) == ("alice@example.com", "Z")
    assert code_of(site, handed_over["link"]) == "redeemed"
    assert site.password_works(NEW_PASSWORD)


def test_links_revoke_keeps_sessions(site: Site) -> None:
    visitor, link, link_of_bob = site.visitor(), site.new_link(), site.new_link("bob")
    visitor.sign_in()
    assert run(site, "links", "revoke", "alice").output == "1 link revoked\n"
    assert "canceled" in visitor.open(link).text
    assert "You're signed in" in visitor.open("/").text
    assert run(site, "links", "revoke", "--all").output == "1 link revoked\n"
    assert "canceled" in visitor.open(link_of_bob).text
    assert run(site, "links", "revoke", "--all").output == "0 links revoked\n"


# --- Without a relay ---

WITHOUT_MAIL = {"MAIL_SERVER": "", "RECOVERY_SUPPORT_CONTACT": "help@example.com"}


def test_without_mail_requests_are_refused_alike_and_the_page_names_the_contact(make_site: Any) -> None:
    site: Site = make_site(**WITHOUT_MAIL)
    page = site.visitor().open("/reset")
    assert page.status_code == 200
    assert "To get a reset link, contact" in page.text
    assert 'href="mailto:help@example.com"' in page.text
    assert 'name="identity"' not in page.text
    known, unknown = (site.ask(identity) for identity in ("alice@example.com", "nobody@example.com"))
    assert (known.status_code, known.json) == (unknown.status_code, unknown.json)
    assert (known.status_code, known.json["response"]["error_code"]) == (503, "mail_not_configured")
    assert "help@example.com" in known.json["response"]["errors"][0]
    form = site.visitor().open("/reset", headers={"Accept": "application/json"}).json["response"]
    assert (form["sends_mail"], form["support_contact"]) == (False, "help@example.com")
    ready = site.visitor().open("/readyz")
    body = {"database": True, "worker": False, "mail": False, "problems": [], "reason": None}
    assert (ready.status_code, ready.json) == (200, body)
    assert code_of(site, hand_over(site)) == "redeemed"
    assert (site.messages(), site.work()) == ([], 0)


def test_commands_without_mail_suggest_reset_link(make_site: Any) -> None:
    site: Site = make_site(**WITHOUT_MAIL)
    instead = 'users reset-link alice --reason "..."'
    for command in ("send-reset", "force-reset"):
        assert instead in run(site, "users", command, "alice", fails=True).output
    assert site.password_works(OLD_PASSWORD)
    shown = run(site, "users", "show", "alice").output
    assert "No mail is sent (MAIL_SERVER is empty)" in shown
    assert "worker" not in shown
    tested = run(site, "mail", "send-test", "me@example.com", fails=True)
    assert "MAIL_SERVER: it is empty, so no mail is sent" in tested.output
    for relay in (site, make_site()):
        output = run(relay, "users", "force-reset", "alice", "--without-mail", "--quiet").output
        assert instead in output
        make_due(relay)
        assert relay.work() == 0
        assert not relay.password_works(OLD_PASSWORD)


def test_message_queued_before_mail_was_switched_off_is_held(site: Site) -> None:
    site.ask()
    mailman = site.app.extensions["mailman"]
    server, mailman.server, site.app.config["MAIL_SERVER"] = mailman.server, "", ""
    with pytest.raises(MailHeld, match="MAIL_SERVER: it is empty"):
        site.work()
    assert [message["attempts"] for message in site.messages()] == [0]
    mailman.server = server
    assert site.work() == 1
