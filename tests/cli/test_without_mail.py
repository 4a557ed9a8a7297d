"""A deployment without a relay: MAIL_SERVER is empty."""

from typing import Any

import pytest
from support.commands import hand_over, run
from support.site import NEW_PASSWORD, Site

from app.mail.smtp_failures import MailHeld

CONTACT = "help@example.com"


@pytest.fixture
def site(make_site: Any) -> Site:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT=CONTACT)
    return site


def test_forgot_page_without_mail_names_the_contact(site: Site) -> None:
    page = site.visitor().open("/reset")
    assert page.status_code == 200
    assert "To get a reset link, contact" in page.text
    assert f'href="mailto:{CONTACT}"' in page.text
    assert 'name="identity"' not in page.text


def test_request_without_mail_is_refused_alike_for_everyone(site: Site) -> None:
    answers = [site.ask(identity) for identity in ("alice@example.com", "nobody@example.com")]
    assert answers[0].status_code == answers[1].status_code == 503
    assert answers[0].json == answers[1].json
    assert answers[0].json["response"]["error_code"] == "mail_not_configured"
    assert CONTACT in answers[0].json["response"]["errors"][0]
    assert site.messages() == []
    form = site.visitor().open("/reset", headers={"Accept": "application/json"}).json["response"]
    assert (form["sends_mail"], form["support_contact"]) == (False, CONTACT)


def test_reset_without_mail_works_and_queues_no_notice(site: Site) -> None:
    assert site.visitor().set_password(hand_over(site)).status_code == 302
    assert site.password_works(NEW_PASSWORD)
    assert site.messages() == []
    assert site.work() == 0


def test_commands_without_mail_suggest_reset_link(site: Site) -> None:
    instead = 'users reset-link alice --reason "..."'
    assert instead in run(site, "users", "send-reset", "alice", fails=True).output
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


def test_readyz_without_mail_needs_no_worker(site: Site) -> None:
    answer = site.visitor().open("/readyz")
    body = {"database": True, "worker": False, "mail": False, "problems": [], "reason": None}
    assert (answer.status_code, answer.json) == (200, body)
