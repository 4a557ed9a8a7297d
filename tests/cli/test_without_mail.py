"""A deployment without a relay: MAIL_SERVER is empty."""

from typing import Any

import pytest
from support.commands import hand_over, run
from support.recovery import code_of
from support.site import OLD_PASSWORD, Site

from app.mail.smtp_failures import MailHeld

CONTACT = "help@example.com"


@pytest.fixture
def site(make_site: Any) -> Site:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT=CONTACT)
    return site


def test_without_mail_requests_are_refused_alike_and_the_page_names_the_contact(site: Site) -> None:
    page = site.visitor().open("/reset")
    assert page.status_code == 200
    assert "To get a reset link, contact" in page.text
    assert f'href="mailto:{CONTACT}"' in page.text
    assert 'name="identity"' not in page.text
    known, unknown = (site.ask(identity) for identity in ("alice@example.com", "nobody@example.com"))
    assert (known.status_code, known.json) == (unknown.status_code, unknown.json)
    assert (known.status_code, known.json["response"]["error_code"]) == (503, "mail_not_configured")
    assert CONTACT in known.json["response"]["errors"][0]
    form = site.visitor().open("/reset", headers={"Accept": "application/json"}).json["response"]
    assert (form["sends_mail"], form["support_contact"]) == (False, CONTACT)
    ready = site.visitor().open("/readyz")
    body = {"database": True, "worker": False, "mail": False, "problems": [], "reason": None}
    assert (ready.status_code, ready.json) == (200, body)
    assert code_of(site, hand_over(site)) == "redeemed"
    assert (site.messages(), site.work()) == ([], 0)


def test_commands_without_mail_suggest_reset_link(site: Site) -> None:
    instead = 'users reset-link alice --reason "..."'
    for command in ("send-reset", "force-reset"):
        assert instead in run(site, "users", command, "alice", fails=True).output
    assert site.password_works(OLD_PASSWORD)
    assert instead in run(site, "users", "force-reset", "alice", "--without-mail").output
    shown = run(site, "users", "show", "alice").output
    assert "No mail is sent (MAIL_SERVER is empty)" in shown
    assert "worker" not in shown
    tested = run(site, "mail", "send-test", "me@example.com", fails=True)
    assert "MAIL_SERVER: it is empty, so no mail is sent" in tested.output


def test_message_queued_before_mail_was_switched_off_is_held(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SUPPORT_CONTACT=CONTACT)
    site.ask()
    mailman = site.app.extensions["mailman"]
    server, mailman.server, site.app.config["MAIL_SERVER"] = mailman.server, "", ""
    with pytest.raises(MailHeld, match="MAIL_SERVER: it is empty"):
        site.work()
    assert [message["attempts"] for message in site.messages()] == [0]
    mailman.server = server
    assert site.work() == 1
