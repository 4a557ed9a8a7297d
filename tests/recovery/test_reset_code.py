"""The code beside the link (RECOVERY_CODE): where it works, how often it may be tried, and what it tells."""

import threading
import time
from collections import Counter
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import itsdangerous.timed
import pytest
from playwright.sync_api import Browser, Page
from sqlalchemy import event
from support.application import Application
from support.commands import run
from support.live import base_url, live
from support.mailbox import code_in, html_of, text_of
from support.outbox import make_due
from support.recovery import code_of, object_to
from support.site import BOTH, NEW_PASSWORD, NOBODYS, OLD_PASSWORD, Site

from app.db.audit import RecoveryEvent
from app.db.engine import db
from app.recovery.reset_code import CodeRequest, ResetCode

HOUR = 3_600
ASKED = "Email, username, or phone number"


@pytest.fixture
def site(make_site: Any) -> Site:
    made: Site = make_site(RECOVERY_CODE=True)
    return made


def ask(site: Site, identity: str = "alice", request_id: str | None = None) -> str:
    """Request a link as a program, and return the request id."""
    body = {"identity": identity} | ({"request_id": request_id} if request_id else {})
    return str(site.visitor().post_json("/reset", json=body).json["response"]["request_id"])


def enter(site: Site, request_id: str, code: str, source: str = "192.0.2.1") -> str:
    """Enter a code, and return the token or the error code."""
    answer = site.visitor().post_json(
        "/reset/code",
        json={"request_id": request_id, "code": code},
        environ_overrides={"REMOTE_ADDR": source},
    )
    response = answer.json["response"]
    return str(response.get("token") or response["error_code"])


def mailed(site: Site) -> tuple[str, str]:
    """Work, and return the code and the token in the newest mail."""
    site.work()
    return code_in(site.mailbox.mails[-1]), site.last_link().rsplit("/", 1)[1]


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**8:08}"


# --- Stories ---


def read_on_phone(chromium: Browser, mail: EmailMessage) -> str:
    """Show a mail on a phone, and return the code in large letters."""
    with chromium.new_context(viewport={"width": 360, "height": 720}, java_script_enabled=False) as phone:
        page = phone.new_page()
        page.set_content(html_of(mail))
        assert page.get_by_text("Never share this code").is_visible()
        return page.locator(".code").inner_text()


def type_code(page: Page, code: str) -> None:
    page.get_by_label("Code from the email").fill(code)
    page.get_by_role("button", name="Continue").click()


@pytest.mark.requirement("R13", "R67")
def test_code_read_on_a_phone_is_typed_where_the_link_was_asked_for(
    make_site: Any, chromium: Browser, page: Page
) -> None:
    """Without JavaScript. In no other browser, with a typo corrected, and once."""
    with live(make_site, RECOVERY_CODE=True) as site:
        page.goto(f"{base_url(site)}/reset")
        page.get_by_label(ASKED).fill("alice")
        page.get_by_role("button", name="Email me a link").click()
        page.wait_for_url("**/check-mail")
        code = read_on_phone(chromium, site.mailbox.wait_for(1))
        assert len(code) == len("4821 7730")
        with chromium.new_context(java_script_enabled=False) as elsewhere:
            other = elsewhere.new_page()
            other.goto(f"{base_url(site)}/check-mail")
            type_code(other, code)
            other.get_by_role("alert").get_by_text("doesn't work in this browser").wait_for()
        box = page.get_by_label("Code from the email")
        assert (box.get_attribute("autocomplete"), box.get_attribute("inputmode")) == (
            "one-time-code",
            "numeric",
        )
        type_code(page, wrong(code.replace(" ", "")))
        page.get_by_role("alert").get_by_text("Check for typos").wait_for()
        type_code(page, code)
        page.get_by_label("New password", exact=False).first.fill(NEW_PASSWORD)
        page.locator("[name=password_confirm]").fill(NEW_PASSWORD)
        page.locator("main form button, main form [type=submit]").first.click()
        page.wait_for_url("**/reset-done")
        assert site.password_works(NEW_PASSWORD)
        page.goto(f"{base_url(site)}/reset/code")
        type_code(page, code)
        page.get_by_role("heading", name="This link has already been used").wait_for()


def test_code_is_off_until_an_admin_switches_it_on(make_site: Any, tmp_path: Path) -> None:
    """The subject holds it only in a template of the admin's."""
    site: Site = make_site()
    assert site.ask().json == {"meta": {"code": 200}, "response": {}}
    site.work()
    assert "code" not in text_of(site.mailbox.mails[-1])
    assert "one-time-code" not in site.visitor().open("/check-mail").text
    assert site.visitor().post_json("/reset/code", json={"password": NEW_PASSWORD}).status_code == 400
    assert site.rows(CodeRequest) == site.rows(ResetCode) == []

    own = tmp_path / "security" / "email" / "reset_instructions.subject.txt"
    own.parent.mkdir(parents=True)
    own.write_text("Your code is {{ reset_code }}")
    site = make_site(RECOVERY_CODE=True, RECOVERY_TEMPLATE_DIR=str(tmp_path))
    ask(site)
    code, _ = mailed(site)
    assert site.mailbox.mails[-1]["Subject"] == f"Your code is {code}"
    run(site, "users", "send-reset", "alice")
    site.work()  # no browser has asked
    assert "Never read this code" not in text_of(site.mailbox.mails[-1])
    assert "one-time-code" not in site.visitor().open("/check-mail?after=sign-up").text


# --- Where it works ---


def test_code_works_with_the_digits_of_any_script_spaces_and_dashes(site: Site) -> None:
    request_id = ask(site)
    code, token = mailed(site)
    arabic = "".join(chr(0x0660 + int(digit)) for digit in code)
    for typed in (f"{code[:4]}-{code[4:]}", f" {arabic[:4]}\u202f{arabic[4:]} ", f"{code[:2]}–{code[2:]}."):
        assert enter(site, request_id, typed) == token
    for typed in ("", code[:7], f"{code}1", "one two"):
        assert enter(site, request_id, typed) == "code_invalid"  # and none of them counts
    assert enter(site, request_id, wrong(code)) == "code_invalid"
    assert enter(site, request_id, code) == token
    assert site.visitor().post_json("/reset/code", json={"request_id": 5, "code": 5}).status_code == 400


def test_code_works_with_every_id_that_asked_for_the_account(make_site: Any) -> None:
    """By any name of it, and also for those whose own mail the cool-down dropped. For others it does not."""
    site: Site = make_site(RECOVERY_CODE=True, RECOVERY_MAIL_COOLDOWN="5 minutes")
    ids = [ask(site), ask(site), ask(site, "alice@example.com"), ask(site, "+1 415 555 0123")]
    bobs = ask(site, "bob")
    site.work()
    late = ask(site)
    site.work()
    mails = {mail["To"]: code_in(mail) for mail in site.mailbox.mails}
    assert len(site.mailbox.mails) == 2
    assert {len(enter(site, one, mails["alice@example.com"])) for one in (*ids, late)} == {43}
    assert enter(site, bobs, mails["alice@example.com"]) == "code_invalid"
    assert enter(site, "", mails["alice@example.com"]) == "code_invalid"
    forged = bobs.replace(bobs[:20], ids[0][:20])
    assert enter(site, forged, mails["alice@example.com"]) == "code_invalid"


def test_request_id_is_kept_for_an_hour(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    first, browser = ask(site), site.visitor()
    browser.submit("/reset", identity="alice")
    cookie = browser.client.get_cookie("sparekey_request", domain="127.0.0.1")
    assert (cookie.max_age, cookie.http_only, cookie.same_site) == (HOUR, True, "Lax")
    now = time.time()
    for seconds, is_kept in ((HOUR - 5, True), (HOUR + 5, False)):
        monkeypatch.setattr(itsdangerous.timed.time, "time", lambda late=seconds: now + late)
        assert (ask(site, "nobody", first) == first) is is_kept
        browser.submit("/reset", identity="alice")
        again = browser.client.get_cookie("sparekey_request", domain="127.0.0.1")
        assert (again.value == cookie.value) is is_kept


@pytest.mark.requirement("R64")
def test_code_survives_a_rotation_of_keys_before_and_after_its_mail(make_site: Any, site: Site) -> None:
    uri = site.app.config["SQLALCHEMY_DATABASE_URI"]
    rotated: Site = make_site(
        RECOVERY_CODE=True,
        SQLALCHEMY_DATABASE_URI=uri,
        SECRET_KEY="another key that is long enough, 0123456789",
        SECRET_KEY_FALLBACKS=[site.app.config["SECRET_KEY"]],
    )
    before, refused = ask(site), ask(site, "bob")
    code, token = mailed(site)
    assert enter(rotated, before, code_in(site.mailbox.mails[0])) != "code_invalid"
    asked = ask(site)
    code, token = mailed(rotated)
    assert (enter(rotated, asked, code), enter(rotated, refused, code)) == (token, "code_invalid")


def test_code_is_the_same_at_every_attempt_to_send_it(site: Site) -> None:
    request_id = ask(site)
    site.mailbox.refuse["DATA"] = "451 later"
    site.work()
    [first] = {row["code_hash"] for row in site.rows(ResetCode)[:1]}
    site.mailbox.refuse.clear()
    make_due(site)
    code, token = mailed(site)
    assert site.rows(ResetCode)[0]["code_hash"] == first
    assert enter(site, request_id, code) == token


def test_code_works_for_an_account_of_another_application(application: Application, make_site: Any) -> None:
    site: Site = make_site(**application.deployment(), RECOVERY_CODE=True)
    application.execute("UPDATE users SET email = 'Alice@Example.com' WHERE id = 1")
    request_id = ask(site, "alice@example.com")
    code, token = mailed(site)
    assert enter(site, request_id, code) == token


# --- How often it may be tried ---


@BOTH
@pytest.mark.requirement("R32", "R57")
def test_code_is_compared_5_times_an_id_and_50_times_in_all(site: Site) -> None:
    """Right codes count as wrong ones do, so that each accepted one is a comparison."""
    for identity, later in (("alice", 0), ("bob", 2)):
        ids = [ask(site, identity) for _ in range(10 + later)]
        code, token = mailed(site)
        compared: Counter[str] = Counter()
        # Entries of ids that asked too late are refused, and count all the same.
        for number, one in enumerate(ids[10:] * 5 + sorted(ids * 8, key=ids.index)):
            answer = enter(site, one, code, source=f"192.0.2.{number}")
            assert answer in (token, "code_invalid")
            compared[one] += answer == token
        assert compared.keys() == set(ids)
        assert [max(compared.values()), compared.total()] == [5, 50 - 5 * later]
        assert [compared[one] for one in ids[10:]] == [0] * later
        assert code_of(site, site.last_link()) == "redeemed"  # the link goes on
        site.work()


def test_code_ends_for_all_after_50_entries_and_known_browsers_come_first(site: Site) -> None:
    strangers = [ask(site) for _ in range(10)]
    code, token = mailed(site)
    known = site.visitor()
    assert known.sign_in()
    known.submit("/reset", identity="alice")
    own = known.client.get_cookie("sparekey_request", domain="127.0.0.1").value
    newer, newer_token = mailed(site)
    assert enter(site, own, code) == enter(site, strangers[0], code) == token
    assert enter(site, strangers[9], code) == "code_invalid"  # the eleventh now
    assert (enter(site, own, newer), enter(site, strangers[0], newer)) == (newer_token, newer_token)
    for one in [ask(site) for _ in range(9)] + strangers[:1]:
        for _ in range(5):
            enter(site, one, wrong(newer))
    assert enter(site, own, newer) == "code_invalid"
    assert code_of(site, site.last_link()) == "redeemed"


@BOTH
@pytest.mark.requirement("R13")
def test_code_of_64_at_once_has_one_winner(site: Site) -> None:
    ids = [ask(site) for _ in range(10)]
    code, token = mailed(site)
    start, outcomes = threading.Barrier(64), []

    def redeem(number: int) -> None:
        start.wait()
        answer = enter(site, ids[number % 10], code)
        if answer == token:
            answer = code_of(site, f"/reset/{answer}", f"the password of visitor {number}")
        outcomes.append(answer)

    threads = [threading.Thread(target=redeem, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(outcomes)
    assert counts.keys() == {"redeemed", "link_used", "code_invalid"}
    assert counts["redeemed"] == 1
    assert counts["code_invalid"] >= 14  # five an id


# --- How it ends, and what it tells ---


@pytest.mark.requirement("R13", "R14", "R69")
def test_code_ends_with_its_link(site: Site) -> None:
    """Only the right code with the right id says why."""
    request_id, other = ask(site), ask(site, "nobody")
    first, _ = mailed(site)
    ask(site, "alice", request_id)
    second, _ = mailed(site)
    assert code_of(site, site.last_link()) == "redeemed"
    assert enter(site, request_id, second) == "link_used"
    assert enter(site, request_id, first) == "link_superseded"
    assert enter(site, request_id, wrong(first)) == enter(site, other, first) == "code_invalid"
    site.work()
    request_id = ask(site)
    code, _ = mailed(site)
    object_to(site, site.mailbox.mails[-1])
    assert enter(site, request_id, code) == "link_revoked"


@pytest.mark.requirement("R1", "R2")
def test_code_for_known_and_unknown_identities_runs_the_same_statements(site: Site) -> None:
    """Whether or not entries are left."""
    ids = {identity: ask(site, identity) for identity in ("alice", *NOBODYS.values())}
    site.work()
    right = code_in(next(mail for mail in site.mailbox.mails if mail["To"] == "alice@example.com"))
    with site.app.app_context():
        engine = db.engine

    def statements_of(request_id: str, code: str) -> list[str]:
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        assert enter(site, request_id, code) == "code_invalid"
        event.remove(engine, "before_cursor_execute", note)
        return statements

    for number in range(7):
        known = statements_of(ids["alice"], right if number > 4 else wrong(right))
        assert known
        for identity in NOBODYS.values():
            assert statements_of(ids[identity], right) == known, (number, identity)


@pytest.mark.requirement("R11", "R60", "R61")
def test_code_is_audited_and_stored_as_keyed_hashes_alone(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    request_id = ask(site)
    code, _ = mailed(site)
    enter(site, request_id, wrong(code))
    enter(site, request_id, code)
    entered = [row for row in site.rows(RecoveryEvent) if row["kind"] in ("code_entered", "opened")]
    assert [(row["kind"], row["reason"], row["user_id"] is None) for row in entered] == [
        ("code_entered", None, True),
        ("code_entered", None, True),
        ("opened", "code", False),
    ]
    assert {row["request_id"] for row in entered[:2]} == {site.rows(CodeRequest)[0]["requester"]}
    assert "code_entered" in run(site, "events").output
    tables = (ResetCode, CodeRequest, RecoveryEvent)
    stored = str([*(site.rows(table) for table in tables), site.links(), site.messages()])
    for secret in (code, request_id):
        assert secret not in stored
        assert secret not in caplog.text
    assert site.password_works(OLD_PASSWORD)
