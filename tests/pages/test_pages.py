"""The pages around the core: home, done, problems, health; their headers; the inbox; passwords; sign-in."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text
from support.site import NEW_PASSWORD, NOBODYS, OLD_PASSWORD, Site

from app.accounts.models import User
from app.db.engine import db
from app.mail import heartbeat
from app.mail.heartbeat import WorkerHeartbeat
from app.mail.outbox import OutboxMessage
from app.web.logging import redact
from examples.demo import inbox


def test_home_says_where_one_is_and_where_to_go(site: Site) -> None:
    visitor = site.visitor()
    assert "You are not signed in" in visitor.open("/").text
    visitor.sign_in()
    assert "alice@example.com" in visitor.open("/").text
    visitor.submit("/", "/logout")
    assert "You are not signed in" in visitor.open("/").text


def test_the_done_page_is_seen_once_and_only_after_a_reset(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.open("/reset-done").location == "/"
    visitor.set_password(site.new_link())
    done = visitor.open("/reset-done")
    assert "Your password is changed" in done.text
    assert 'href="/login"' in done.text
    assert visitor.open("/reset-done").location == "/"


@pytest.mark.requirement("R70")
def test_well_known_change_password_leads_to_the_page(make_site: Any) -> None:
    assert make_site().visitor().open("/.well-known/change-password").location == "/change"
    without_change = make_site(SECURITY_CHANGEABLE=False)
    assert without_change.visitor().open("/.well-known/change-password").location == "/reset"
    unknown = "/.well-known/resource-that-should-not-exist-whose-status-code-should-not-be-200"
    assert make_site().visitor().open(unknown).status_code == 404


def test_healthz(site: Site) -> None:
    answer = site.visitor().open("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


@pytest.mark.requirement("R59")
def test_readyz_says_what_does_not_work(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(RECOVERY_MAIL_WAITING_MAX=2)
    visitor = site.visitor()

    def seen(**headers: str) -> tuple[int, Any]:
        answer = visitor.open("/readyz", headers=headers)
        return answer.status_code, answer.json

    def report(worker: bool, mail: bool, *problems: str) -> tuple[int, Any]:
        said = {"database": True, "worker": worker, "mail": mail, "problems": list(problems)}
        return 503 if problems else 200, said

    assert seen() == report(False, True, "no_worker")
    with site.app.app_context():
        for _ in range(2):
            heartbeat.Heartbeat().beat()
    assert seen(Host="10.0.0.7:8000") == report(True, True)
    site.ask()
    site.change(OutboxMessage, OutboxMessage.state == "waiting", created_at=datetime(2020, 1, 1))
    assert seen() == report(True, False, "mail_late")
    site.work()
    assert seen() == report(True, True)
    site.change(WorkerHeartbeat, WorkerHeartbeat.name != "", trouble="MAIL_PASSWORD: wrong")
    assert seen() == report(True, False, "mail_held")
    site.change(WorkerHeartbeat, WorkerHeartbeat.name != "", trouble=None)
    site.ask("alice")
    site.ask("bob")
    assert seen() == report(True, False, "outbox_full")
    site.change(WorkerHeartbeat, WorkerHeartbeat.name != "", seen_at=datetime(2020, 1, 1))
    assert seen()[1]["worker"] is False
    with site.app.app_context():
        db.session.execute(text("DROP TABLE worker_sign"))
        db.session.commit()
    unknown = {"database": False, "worker": None, "mail": None, "problems": ["database_away"]}
    assert seen() == (503, unknown)


@pytest.mark.parametrize(("method", "path", "status"), [("get", "/nowhere", 404), ("put", "/", 405)])
@pytest.mark.requirement("R66")
def test_a_problem_is_told_in_the_callers_format(site: Site, method: str, path: str, status: int) -> None:
    visitor = site.visitor()
    page = getattr(visitor.client, method)(path, json={}, base_url=visitor.base)
    assert (page.status_code, page.json["meta"]["code"]) == (status, status)
    assert page.json["response"]["error_code"]
    if method == "get":
        page = visitor.open(path)
        assert page.status_code == status
        assert "<h1>There is nothing here</h1>" in page.text


@pytest.mark.requirement("R52")
def test_a_redirect_of_the_router_stays_on_this_site(site: Site) -> None:
    answer = site.visitor().open("/reset//" + "x" * 43)
    assert (answer.status_code, answer.location) == (308, "http://127.0.0.1:5000/reset/" + "x" * 43)


@pytest.mark.parametrize("path", ["/", "/login", "/reset", "/nowhere", "/healthz", "/reset/" + "x" * 43])
@pytest.mark.requirement("R47", "R48", "R49", "R50")
def test_every_answer_has_its_headers(make_site: Any, path: str) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    headers = site.visitor().open(path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    policy = headers["Content-Security-Policy"]
    for directive in (
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ):
        assert directive in policy
    assert "unsafe" not in policy
    assert headers["Referrer-Policy"] == ("no-referrer" if "xxx" in path else "same-origin")


@pytest.mark.requirement("R50", "R68")
def test_no_page_holds_inline_style_or_script(site: Site) -> None:
    visitor = site.visitor()
    link = site.new_link()
    for path in ("/", "/login", "/reset", "/nowhere", link):
        page = visitor.open(path, follow_redirects=True).text
        assert "<style" not in page
        assert "style=" not in page
        assert (
            page.count("<script") == page.count('<script nonce="') == page.count('src="/static/password.js"')
        )
        assert '<html lang="en" dir="ltr">' in page
    visitor.sign_in()
    assert "Change your password" in visitor.open("/change").text
    assert "<style" not in visitor.open("/verify").text  # a page of Flask-Security's in our frame


def test_the_stylesheet_may_be_cached(site: Site) -> None:
    with site.visitor().open("/static/sparekey.css") as answer:
        assert "max-age" in answer.headers["Cache-Control"]


# --- the inbox -----------------------------------------------------------------------------------


def test_the_inbox_shows_mail_as_a_mail_program_would(make_site: Any, tmp_path: Any) -> None:
    site: Site = make_site(RECOVERY_INBOX=True)
    site.app.register_blueprint(inbox.pages)
    site.app.instance_path = str(tmp_path)
    visitor = site.visitor()
    assert "No mail yet" in visitor.open("/inbox/").text
    site.ask()
    site.work()
    listing = visitor.open("/inbox/").text
    assert "Reset your Sparekey password" in listing
    number = listing.split('href="/inbox/')[2].split('"')[0]
    assert "Somebody, most likely you" in visitor.open(f"/inbox/{number}").text
    framed = visitor.open(f"/inbox/{number}/html")
    assert "Choose a new password</a>" in framed.text
    assert "sandbox" in framed.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in framed.headers["Content-Security-Policy"]
    assert visitor.open("/inbox/123").status_code == 404
    assert site.mailbox.mails == []  # nothing left this machine


def test_there_is_no_inbox_unless_it_is_switched_on(site: Site) -> None:
    assert site.visitor().open("/inbox/").status_code == 404


# --- passwords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "problem"),
    [
        ("é" * 14, "at least 15"),
        ("e\u0301" * 14, "at least 15"),
        ("x" * 129, "at most 128"),
        ("x" * 20_000, "at most 128"),
        ("\ud800" * 15, "no keyboard"),
        ("kfwmqzhtrbxpldv", None),  # no composition rules
        ("élèves-au-château" + "éà" * 55 + "!", None),
        ("élèves-au-château" + "e\u0301a" * 55 + "!", None),
        ("pass phrase with 🗝 and spaces ", None),
    ],
)
@pytest.mark.requirement("R26", "R27", "R28", "R29", "R32")
def test_a_new_password_is_measured_in_characters(site: Site, password: str, problem: str | None) -> None:
    answer = site.visitor().post_json(
        site.new_link(), json={"password": password, "password_confirm": password}
    )
    assert answer.json is not None
    if problem:
        assert answer.status_code == 400
        assert problem in answer.json["response"]["errors"][0]
        return
    assert answer.status_code == 200
    assert site.password_works(password)
    assert not site.password_works(password[:-1])
    assert not site.password_works(password.strip() + "?")


@pytest.mark.requirement("R28")
def test_one_normal_form_at_reset_and_sign_in(site: Site) -> None:
    password = "decomposed e\u0301 here"
    site.visitor().set_password(site.new_link(), password)
    assert site.password_works("decomposed é here")


@pytest.mark.requirement("R33")
def test_passwords_rest_as_argon2id(site: Site) -> None:
    site.visitor().set_password(site.new_link())
    assert site.rows(User)[0]["password"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


# --- sign in -------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["alice", "ALICE@example.com", " +1 (415) 555-0123 "])
def test_sign_in_takes_any_identity(site: Site, identity: str) -> None:
    assert site.visitor().sign_in(identity)


@pytest.mark.parametrize("who", [*NOBODYS, "wrong password"])
def test_whoever_can_not_sign_in_is_told_the_same(site: Site, who: str) -> None:
    identity = NOBODYS.get(who, "alice@example.com")
    password = OLD_PASSWORD if who in NOBODYS else "a wrong password"
    answer = site.visitor().submit("/login", identity=identity, password=password)
    assert "That did not match." in answer.text
    for field in ("identity", "email"):
        json_answer = site.visitor().post_json("/login", json={field: identity, "password": password})
        assert json_answer.status_code == 400
        assert json_answer.json["response"]["errors"] == [
            "That did not match. Check what you typed and try again."
        ]  # type: ignore[index]


def test_json_signs_in(site: Site) -> None:
    visitor = site.visitor()
    answer = visitor.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert answer.status_code == 200
    assert visitor.is_signed_in()


@pytest.mark.parametrize(
    "body",
    [
        {"identity": "alice"},
        {"password": "x"},
        {"identity": "alice", "password": ["x"] * 3},
        {"identity": "alice", "password": {"a": 1}},
        {"identity": "alice", "password": "x", "next": 5},
        {"identity": "alice", "password": "\ud800"},
    ],
)
def test_a_sign_in_that_makes_no_sense_is_refused(site: Site, body: dict[str, Any]) -> None:
    answer = site.visitor().post_json("/login", json=body)
    assert answer.status_code == 400
    assert answer.json is not None


@pytest.mark.requirement("R52")
def test_after_sign_in_one_goes_where_one_wanted_but_never_away(site: Site) -> None:
    assert (
        site.visitor().submit("/login?next=/change", identity="alice", password=OLD_PASSWORD).location
        == "/change"
    )
    away = site.visitor().submit("/login?next=https://evil.example", identity="alice", password=OLD_PASSWORD)
    assert "evil" not in (away.location or "")


def test_an_unconfirmed_account_can_not_sign_in(make_site: Any) -> None:
    assert not make_site(SECURITY_CONFIRMABLE=True).password_works(OLD_PASSWORD)


def test_changing_the_password_when_signed_in(site: Site) -> None:
    visitor = site.visitor()
    visitor.sign_in()
    visitor.submit(
        "/change", password=OLD_PASSWORD, new_password=NEW_PASSWORD, new_password_confirm=NEW_PASSWORD
    )
    assert site.password_works(NEW_PASSWORD)


# --- logs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        '"GET /auth/reset/{token} HTTP/1.1" 303',
        '"GET /reset//{token} HTTP/1.1" 308',
        '"GET /%72eset/{token}" 404',
        '"GET /" "https://safelinks.example?url=https%3A%2F%2Fid.example.com%2Freset%2F{token}"',
    ],
)
@pytest.mark.requirement("R61")
def test_tokens_stay_out_of_logs(site: Site, caplog: pytest.LogCaptureFixture, line: str) -> None:
    token = site.new_link().rsplit("/", 1)[1]
    for name in ("werkzeug", "gunicorn.access", site.app.logger.name):
        logging.getLogger(name).warning("%s", line.format(token=token))
    assert token not in caplog.text
    assert caplog.text.count("[token]") == 3


def test_what_is_no_secret_stays_readable_in_logs() -> None:
    assert redact("/reset/~handle and 1234") == "/reset/~handle and 1234"
    assert redact("to <alice@example.com>: 450") == "to <[address]>: 450"
