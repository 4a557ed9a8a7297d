"""The code beside the link (RECOVERY_CODE): where it works, how often it may be tried, and what it tells."""

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import itsdangerous.timed
import pytest
from support.application import Application
from support.commands import run
from support.concurrency import at_once
from support.database import statements_of
from support.mailbox import code_in, html_of, text_of
from support.outbox import make_due
from support.recovery import code_of, mails_to, object_to
from support.site import BOTH, NEW_PASSWORD, NOBODYS, Site, Visitor

from app.db.audit import RecoveryEvent
from app.recovery.reset_code import CodeRequest, ResetCode

HOUR = 3_600


@pytest.fixture
def site(make_site: Any) -> Site:
    made: Site = make_site(RECOVERY_CODE=True)
    return made


def ask(site: Site, identity: str = "alice", request_id: str | None = None) -> str:
    """Request a link as a program, and return the request id."""
    body = {"identity": identity} | ({"request_id": request_id} if request_id else {})
    return str(site.visitor().post_json("/reset", json=body).json["response"]["request_id"])


def enter(site: Site, request_id: str, code: str) -> str:
    """Enter a code, and return the token or the error code."""
    answer = site.visitor().post_json("/reset/code", json={"request_id": request_id, "code": code})
    response = answer.json["response"]
    return str(response.get("token") or response["error_code"])


def mailed(site: Site) -> tuple[str, str]:
    """Work, and return the code and the token in the newest mail."""
    site.work()
    return code_in(site.mailbox.mails[-1]), site.last_link().rsplit("/", 1)[1]


def wrong(code: str) -> str:
    return f"{(int(code) + 1) % 10**8:08}"


@pytest.mark.requirement("R67")
def test_code_is_typed_where_the_link_was_asked_for(site: Site) -> None:
    """In no other browser, and with a typo corrected."""
    browser = site.visitor()
    page = browser.open(browser.submit("/reset", identity="alice").location).text
    [box] = [field for field in re.findall("<input[^>]*>", page) if 'name="code"' in field]
    assert [text for text in ('autocomplete="one-time-code"', 'inputmode="numeric"') if text not in box] == []
    code, token = mailed(site)
    mail = html_of(site.mailbox.mails[-1])
    assert "Never share this code" in mail
    assert re.search(f'class="code"[^>]*>{code[:4]} {code[4:]}<', mail)

    def type_code(visitor: Visitor, typed: str) -> str:
        answer = visitor.submit("/check-mail", "/reset/code", code=typed)
        return visitor.open(answer.location).text if answer.location else answer.text

    assert "doesn&#39;t work in this browser. Check for typos" in type_code(site.visitor(), code)
    assert "Check for typos" in type_code(browser, wrong(code))
    assert "Choose a new password" in type_code(browser, f"{code[:4]} {code[4:]}")
    assert code_of(site, f"/reset/{token}") == "redeemed"
    assert "This link has already been used" in type_code(browser, code)
    assert browser.open("/reset/code").location == "/check-mail"


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


def test_code_works_with_every_id_that_asked_for_the_account_and_however_it_is_typed(make_site: Any) -> None:
    """By any name of it, and also for those whose own mail the cool-down dropped. For others it does not."""
    site: Site = make_site(RECOVERY_CODE=True, RECOVERY_MAIL_COOLDOWN="5 minutes")
    ids = [ask(site), ask(site), ask(site, "alice@example.com"), ask(site, "+1 415 555 0123")]
    code, token = mailed(site)
    ids.append(ask(site))
    bobs = ask(site, "bob")
    assert len(mails_to(site)) == 2
    arabic = "".join(chr(0x0660 + int(digit)) for digit in code)
    spellings = (f"{code[:4]}-{code[4:]}", f" {arabic[:4]}\u202f{arabic[4:]} ", f"{code[:2]}–{code[2:]}.", code, code)  # fmt: skip
    assert [enter(site, *entry) for entry in zip(ids, spellings, strict=True)] == [token] * 5
    for other in (bobs, "", bobs.replace(bobs[:20], ids[0][:20])):
        assert enter(site, other, code) == "code_invalid"
    for typed in ("", code[:7], f"{code}1", "one two", wrong(code)):
        assert enter(site, ids[0], typed) == "code_invalid"  # and only the last counts
    assert [enter(site, ids[0], code) for _ in range(4)] == [token] * 3 + ["code_invalid"]
    assert site.visitor().post_json("/reset/code", json={"request_id": 5, "code": 5}).status_code == 400


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
    uri, key = site.app.config["SQLALCHEMY_DATABASE_URI"], site.app.config["SECRET_KEY"]
    keys = {"SECRET_KEY": "another key that is long enough, 0123456789", "SECRET_KEY_FALLBACKS": [key]}
    rotated: Site = make_site(RECOVERY_CODE=True, SQLALCHEMY_DATABASE_URI=uri, **keys)
    before, refused = ask(site), ask(site, "bob")
    site.work()
    assert enter(rotated, before, code_in(site.mailbox.mails[0])) != "code_invalid"
    asked = ask(site)
    code, token = mailed(rotated)
    assert (enter(rotated, asked, code), enter(rotated, refused, code)) == (token, "code_invalid")


def test_code_is_the_same_at_every_attempt_to_send_it(site: Site) -> None:
    request_id = ask(site)
    site.mailbox.refuse["DATA"] = "451 later"
    site.work()
    first = site.rows(ResetCode)[0]["code_hash"]
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


def beside(application: Application, make_site: Any, username: str) -> Site:
    """Return a site for the application, whose alice has a number, too."""
    in_capitals = {"normalize": "upper"} if username != "pe24" else {}
    number = {"employee_number": {"pattern": "[A-Z]{2}[0-9]+", **in_capitals}}
    kinds = ["email", "username", "us_phone_number", number]
    deployment = application.deployment(identities={"employee_number": "status"})
    application.execute("UPDATE users SET username = :name, status = 'EX42' WHERE id = 1", name=username)
    made: Site = make_site(**deployment, SECURITY_USER_IDENTITY_ATTRIBUTES=kinds, RECOVERY_CODE=True)
    return made


@pytest.mark.parametrize(
    ("username", "typed"),
    [
        ("Alice", ("alice", "Alice", "ALICE")),
        ("alice", ("+14155550123", "+1 (415) 555-0123", "+١٤١٥٥٥٥٠١٢٣", "EX42", "ex42")),
        ("Alice@old.example.com", ("alice@old.example.com",)),
        ("+14155550177", ("+14155550177", "+14155550123")),
        ("XE24", ("XE24", "xe24", "ex42")),
        ("pe24", ("PE24", "pe24")),
    ],
)
def test_code_works_for_every_identity_of_an_account_of_another_application(
    application: Application, make_site: Any, username: str, typed: tuple[str, ...]
) -> None:
    """Its usernames are any text, also such as another kind's."""
    site = beside(application, make_site, username)
    for identity in typed:
        request_id = ask(site, identity)
        code, token = mailed(site)
        assert enter(site, request_id, code) == token, identity


@pytest.mark.parametrize("username", ["sso@example.com", "+14155550177"])
def test_browser_is_known_for_its_account_of_another_application_alone(
    application: Application, make_site: Any, username: str
) -> None:
    """Nobody gets the quota of another account's browsers by a username such as her address or number."""
    site = beside(application, make_site, username)
    visitor, quotas = site.visitor(), {}
    visitor.set_password(site.new_link())
    for identity in ("alice@example.com", "+1 415 555 0123", "ex42", username):
        visitor.post_json("/reset", json={"identity": identity})
        quotas[identity] = site.messages()[-1]["quota"]
    assert quotas == {**dict.fromkeys(quotas, "known browser"), username: ""}


@BOTH
@pytest.mark.requirement("R32", "R57")
def test_code_is_compared_5_times_an_id_and_50_times_in_all(site: Site) -> None:
    """Right codes count as wrong ones do, so that each accepted one is a comparison."""
    for identity, later in (("alice", 0), ("bob", 2)):
        ids = [ask(site, identity) for _ in range(10 + later)]
        code, token = mailed(site)
        compared: Counter[str] = Counter()
        # Entries of ids that asked too late are refused, and count all the same.
        for one in ids[10:] * 5 + sorted(ids * 6, key=ids.index):
            answer = enter(site, one, code)
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

    def redeem(number: int) -> str:
        answer = enter(site, ids[number % 10], code)
        if answer == token:
            answer = code_of(site, f"/reset/{token}", f"the password of visitor {number}")
        return answer

    counts = Counter(at_once(64, redeem))
    assert counts.keys() == {"redeemed", "link_used", "code_invalid"}
    assert counts["redeemed"] == 1
    assert counts["code_invalid"] >= 14  # five an id


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
    [right] = [code_in(mail) for mail in site.mailbox.mails if mail["To"] == "alice@example.com"]

    def observe(identity: str, code: str) -> list[str]:
        with statements_of(site) as statements:
            assert enter(site, ids[identity], code) == "code_invalid"
        return statements

    for number in range(7):
        known = observe("alice", right if number > 4 else wrong(right))
        assert known
        for identity in NOBODYS.values():
            assert observe(identity, right) == known, (number, identity)


@pytest.mark.requirement("R11", "R60", "R61")
def test_code_is_audited_and_stored_as_keyed_hashes_alone(site: Site, caplog: Any) -> None:
    request_id = ask(site)
    code, _ = mailed(site)
    enter(site, request_id, wrong(code))
    enter(site, request_id, code)
    entered = [row for row in site.rows(RecoveryEvent) if row["kind"] in ("code_entered", "opened")]
    facts = [(row["kind"], row["reason"], row["user_id"] is None) for row in entered]
    assert facts == [("code_entered", None, True)] * 2 + [("opened", "code", False)]
    assert {row["request_id"] for row in entered[:2]} == {site.rows(CodeRequest)[0]["requester"]}
    assert "code_entered" in run(site, "events").output
    tables = (ResetCode, CodeRequest, RecoveryEvent)
    stored = str([*(site.rows(table) for table in tables), site.links(), site.messages()])
    for secret in (code, request_id):
        assert secret not in stored + caplog.text
