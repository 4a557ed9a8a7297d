"""Where mail can not help: an admin hands over a link; and a deployment that sends no mail at all."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import zxingcpp
from click.testing import Result
from flask.testing import FlaskCliRunner
from support.site import NEW_PASSWORD, PUBLIC_URL, Site, load_settings

import manage
from app.accounts.models import User
from app.cli import live_checks
from app.db.audit import RecoveryEvent
from app.mail.smtp_failures import MailHeld
from app.settings import advice, schema
from app.settings.problems import SettingsError

CONTACT = "help@example.com"


def read_qr_code(drawn: list[str]) -> str:
    """As a telephone reads it: two rows of squares stand in one line, light ones drawn."""
    rows = [[letter in drawn_ for letter in line] for line in drawn for drawn_ in ("█▀", "█▄")]
    size = 8  # pixels of a square
    pixels = bytes(255 * square for row in rows for _ in range(size) for square in row for _ in range(size))
    picture = memoryview(pixels).cast("B", shape=[len(rows) * size, len(rows[0]) * size])
    [code] = zxingcpp.read_barcodes(picture)
    return str(code.text)


def run(site: Site, *words: str) -> Result:
    result = FlaskCliRunner(site.app).invoke(manage.cli, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def handed_over(
    site: Site, identity: str = "alice", reason: str = "called back, knows the last invoice"
) -> str:
    result = run(site, "users", "reset-link", identity, "--reason", reason)
    assert result.exit_code == 0, result.output
    [link] = re.findall(rf"^{re.escape(PUBLIC_URL)}/reset/\S+$", result.output, re.M)
    return str(link)


@pytest.fixture
def mailless(make_site: Any) -> Site:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT=CONTACT)
    return site


def test_a_link_that_is_handed_over_works_once(site: Site) -> None:
    link = handed_over(site)
    assert site.visitor().set_password(link).status_code == 302
    assert site.password_works(NEW_PASSWORD)
    assert "already used" in site.visitor().open(link).text


@pytest.mark.requirement("R43")
def test_who_handed_it_over_and_why_stays_and_the_link_does_not(site: Site) -> None:
    link = handed_over(site, reason="  lost the mailbox;\tI know  her voice ")
    [event] = site.rows(RecoveryEvent)
    assert event["kind"] == "admin"
    assert re.fullmatch(r"users reset-link by \S+: lost the mailbox; I know her voice", event["reason"])
    token = link.rpartition("/")[2]
    assert token not in json.dumps([*site.links(), *site.rows(RecoveryEvent)], default=str)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 151])
def test_a_reason_must_be_given(site: Site, reason: str) -> None:
    result = run(site, "users", "reset-link", "alice", "--reason", reason)
    assert result.exit_code == 2
    assert "give a reason of 1 to 150 characters" in result.output
    assert site.links() == []


def test_no_address_rests_in_a_reason(site: Site) -> None:
    handed_over(site, reason="wrote from other@example.com")
    assert site.rows(RecoveryEvent)[0]["reason"].endswith(": wrote from [address]")


def test_it_is_refused_in_words_for_whom_it_can_not_help(site: Site) -> None:
    for identity, why in (
        ("nobody@example.com", "no account has this identity"),
        ("inactive@example.com", "the account is not active"),
        ("sso@example.com", "it signs in another way"),
    ):
        result = run(site, "users", "reset-link", identity, "--reason", "asked")
        assert result.exit_code == 1
        assert why in result.output
    assert site.links() == []


def test_a_link_that_is_handed_over_confirms_no_address(make_site: Any) -> None:
    """Whoever has it got it from the admin, and not by mail."""
    site: Site = make_site()
    link = handed_over(site)
    site.app.config["SECURITY_CONFIRMABLE"] = True
    site.app.extensions["security"].confirmable = True
    assert site.visitor().set_password(link).status_code == 302
    assert site.rows(User)[0]["confirmed_at"] is None


def test_it_ends_no_other_link_until_one_is_used(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="0 seconds")
    mailed, handed = site.new_link(), handed_over(site)
    assert site.visitor().open(mailed).status_code == 303
    site.visitor().set_password(handed)
    assert "Another link was used" in site.visitor().open(mailed).text


def test_it_is_no_mail_so_one_goes_out_at_once(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes", RECOVERY_MAIL_DAILY_CAP=1)
    handed_over(site)
    assert "A reset mail went out" not in run(site, "users", "show", "alice").output
    site.new_link()


def test_it_ends_with_its_time_and_with_the_address(make_site: Any) -> None:
    site: Site = make_site()
    link = handed_over(site)
    assert "was handed over by an admin, and works until" in run(site, "users", "show", "alice").output
    site.change(email="another@example.com")
    assert "cancelled" in site.visitor().open(link).text
    assert "no longer works" in run(site, "users", "show", "another@example.com").output


def test_the_qr_code_holds_the_link(site: Site) -> None:
    result = run(site, "users", "reset-link", "alice", "--reason", "asked")
    [link] = re.findall(r"^http\S+$", result.output, re.M)
    drawn = [line for line in result.output.splitlines() if set(line) & set("█▀▄")]
    assert read_qr_code(drawn) == link


def test_for_programs(site: Site) -> None:
    result = run(site, "users", "reset-link", "alice", "--reason", "asked", "--format", "json")
    told = json.loads(result.output)
    assert told["account"] == "alice@example.com"
    assert told["expires_at"].endswith("Z")
    assert site.visitor().set_password(told["link"]).status_code == 302


def test_the_forgot_page_says_whom_to_ask(mailless: Site) -> None:
    page = mailless.visitor().open("/reset")
    assert page.status_code == 200
    assert "This site sends no mail, so please ask" in page.text
    assert f'href="mailto:{CONTACT}"' in page.text
    assert 'name="identity"' not in page.text


def test_whoever_asks_all_the_same_hears_it_whether_there_is_an_account_or_not(mailless: Site) -> None:
    answers = [
        mailless.visitor().post_json("/reset", json={"identity": identity})
        for identity in ("alice@example.com", "nobody@example.com")
    ]
    assert answers[0].status_code == answers[1].status_code == 503
    assert answers[0].json == answers[1].json
    assert answers[0].json["response"]["error_code"] == "mail_not_configured"
    assert CONTACT in answers[0].json["response"]["errors"][0]
    assert mailless.messages() == []
    known = mailless.visitor().open("/reset", headers={"Accept": "application/json"}).json["response"]
    assert known["sends_mail"] is False
    assert known["support_contact"] == CONTACT


def test_a_link_works_without_mail_and_nothing_piles_up(mailless: Site) -> None:
    assert mailless.visitor().set_password(handed_over(mailless)).status_code == 302
    assert mailless.password_works(NEW_PASSWORD)
    assert mailless.messages() == []
    assert mailless.work() == 0


def test_the_admins_tools_say_what_to_do_instead(mailless: Site) -> None:
    instead = 'users reset-link alice --reason "..."'
    asked = run(mailless, "users", "send-reset", "alice")
    assert asked.exit_code == 1
    assert instead in asked.output
    assert instead in run(mailless, "users", "force-reset", "alice").output
    shown = run(mailless, "users", "show", "alice").output
    assert "No mail is sent (MAIL_SERVER is empty)" in shown
    assert "worker" not in shown
    tested = run(mailless, "mail", "send-test", "me@example.com")
    assert tested.exit_code == 1
    assert "MAIL_SERVER: it is empty, so no mail is sent" in tested.output


def test_mail_that_waited_from_before_is_held_and_goes_out_later(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SUPPORT_CONTACT=CONTACT)
    site.ask()
    with site.app.app_context():
        server, site.app.config["MAIL_SERVER"] = site.app.config["MAIL_SERVER"], ""
        site.app.extensions["mailman"].server = ""
    with pytest.raises(MailHeld, match="MAIL_SERVER: it is empty"):
        site.work()
    assert [message["attempts"] for message in site.messages()] == [0]
    site.app.extensions["mailman"].server = server
    assert site.work() == 1


def test_readyz_needs_no_worker(mailless: Site) -> None:
    answer = mailless.visitor().open("/readyz")
    assert (answer.status_code, answer.json) == (
        200,
        {"database": True, "worker": False, "mail": False, "problems": []},
    )


def test_check_says_it_and_looks_for_no_relay(mailless: Site) -> None:
    given: schema.Settings = mailless.app.extensions["recovery_settings"]
    ids = [finding.id for finding in advice.check_settings(given)]
    assert "no-mail" in ids
    assert not {"nobody-to-ask", "sender-unreal"} & set(ids)
    with mailless.app.app_context():
        assert not [
            finding for finding in live_checks.run(given) if finding.id.startswith(("relay", "spf", "dns"))
        ]


def test_somebody_must_be_named_to_ask() -> None:
    given = load_settings(MAIL_SERVER="", RECOVERY_PUBLIC_URL="https://id.example.com")
    assert [f.id for f in advice.check_settings(given) if f.severity == "error"] == ["nobody-to-ask"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECURITY_CONFIRMABLE", True),
        ("SECURITY_CHANGE_EMAIL", True),
        ("SECURITY_USERNAME_RECOVERY", True),
        ("RECOVERY_OPERATOR", "op@example.com"),
    ],
)
def test_what_needs_mail_is_refused_without_it(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name} .*needs mail, and MAIL_SERVER is empty"):
        load_settings(MAIL_SERVER="", **{name: value})
    load_settings(MAIL_SERVER="", RECOVERY_INBOX=True, **{name: value})
