"""Error codes: each that is documented, with a request that gets it."""

from datetime import datetime
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm.exc import StaleDataError
from support.site import NEW_PASSWORD, Site, load_settings

from app.accounts.models import User
from app.db.engine import db
from app.pages import openapi
from app.recovery.link import ResetLink


@pytest.mark.requirement("R26", "R27", "R53")
def test_error_code_of_every_kind_is_documented_and_reached(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    breached = {"SECURITY_PASSWORD_CHECK_BREACHED": "strict"}
    site: Site = make_site(RATELIMIT_ENABLED=True, RECOVERY_CODE=True, **breached)
    monkeypatch.setattr("app.accounts.breaches.count_breaches", lambda password: "breach" in password)
    reached: set[str] = set()

    def expect(code: str, url: str, body: Any = None, source: str = "192.0.2.1", **options: Any) -> None:
        options.setdefault("json", body)
        answer = site.visitor().post_json(url, environ_overrides={"REMOTE_ADDR": source}, **options)
        assert answer.json["response"].get("error_code", "") == code, (url, body)
        reached.add(code)

    good = {"password": NEW_PASSWORD}
    expect("invalid_request", "/reset", {})
    form: dict[str, Any] = {"data": {"identity": "alice"}, "headers": {"Accept": "application/json"}}
    expect("csrf_failed", "/reset", **form)
    expect("origin_not_allowed", "/reset", {"identity": "alice"}, headers={"Origin": "https://evil.example"})
    for number in range(31):
        expect("rate_limited" if number == 30 else "", "/reset", {"identity": "nobody"}, source="192.0.2.2")
    expect("link_invalid", "/reset/" + "x" * 43, good)
    expect("code_invalid", "/reset/code", {"request_id": "unsigned", "code": "1234 5678"})
    first, second = site.new_link(), site.new_link()
    expect("", first, good)
    expect("link_superseded", second, good)
    for column, code in (("revoked_at", "link_revoked"), ("expires_at", "link_expired")):
        site.work()  # the notices go first
        link = site.new_link()
        site.change(ResetLink, ResetLink.id == len(site.links()), **{column: datetime(2020, 1, 1)})
        expect(code, link, good)
    link = site.new_link()
    expect("invalid_request", link, {})
    expect("invalid_request", link, {"password": 5})
    expect("password_too_short", link, {"password": "short"})
    expect("password_too_long", link, {"password": "x" * 129})
    expect("password_mismatch", link, {**good, "password_confirm": "another one"})
    expect("password_common", link, {"password": "passwordpassword"})
    expect("password_breached", link, {"password": "this was in a breach"}, source="192.0.2.3")
    site.change(withdrawn_password=site.rows(User)[0]["password"])
    expect("password_unchanged", link, good, source="192.0.2.3")
    newer = {"password": "a newer password for alice"}
    site.change(active=False)
    expect("account_unavailable", link, newer, source="192.0.2.3")
    site.change(active=True)
    expect("", link, newer, source="192.0.2.3")
    expect("link_used", link, newer, source="192.0.2.3")
    expect("sign_in_failed", "/login", {"identity": "alice", "password": "wrong"}, source="192.0.2.3")
    expect("not_signed_in", "/change", {}, source="192.0.2.3")
    expect("not_found", "/nowhere", {})
    for code, error in (
        ("internal_error", ZeroDivisionError()),
        ("conflict", StaleDataError("another process was faster")),
        ("unavailable", OperationalError("INSERT", {}, Exception("the server closed the connection"))),
    ):
        with monkeypatch.context() as failing:
            failing.setattr("app.mail.outbox.enqueue", Mock(side_effect=error))
            expect(code, "/reset", {"identity": "alice"}, source="192.0.2.3")
    site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="help@example.com")
    expect("mail_not_configured", "/reset", {"identity": "alice"})
    site = make_site(RATELIMIT_ENABLED=True, RECOVERY_CHALLENGE="always")
    expect("challenge_required", "/reset", {"identity": "alice"})
    site = make_site(RECOVERY_AUTH="username")
    site.change(username=None)
    visitor = site.visitor()
    assert visitor.sign_in("alice@example.com")
    refused = visitor.open("/auth", headers={"Accept": "application/json"})
    reached.add(refused.json["response"]["error_code"])  # no_access
    codes = openapi.document(load_settings())["components"]["schemas"]["ErrorCode"]
    assert reached - {""} == set(codes["enum"])


def test_request_without_a_free_connection_is_unavailable(make_site: Any) -> None:
    pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    site: Site = make_site(SQLALCHEMY_ENGINE_OPTIONS=pool)
    with site.app.app_context(), db.engine.connect():
        answer: Any = site.ask()
        assert (answer.status_code, answer.json["response"]["error_code"]) == (503, "unavailable")
        assert site.visitor().open("/readyz").status_code == 503
    assert site.ask().status_code == 200
