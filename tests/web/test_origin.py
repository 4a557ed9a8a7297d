"""CSRF and CORS: a form needs its token, and JSON an origin that is absent, our own or a configured client's."""

from typing import Any

import pytest
from support.site import PUBLIC_URL, Site, csrf_token
from werkzeug.test import TestResponse

WEB = "https://app.example.com"
EVIL = "https://evil.example"
VIEWS = {"reset_view": f"{WEB}/r", "reset_error_view": f"{WEB}/p"}
VIEW_ALONE = "https://view.example.com"  # the origin of a client's view
CLIENTS = {
    "web": {**VIEWS, "origins": [WEB, "http://localhost:5173"]},
    "view": {"reset_view": f"{VIEW_ALONE}/r", "reset_error_view": f"{VIEW_ALONE}/p"},
    "app": {"reset_view": "myapp://reset", "reset_error_view": "myapp://problem"},
}


def ask(site: Site, origin: str) -> TestResponse:
    body = {"identity": "alice", "client": "web"}
    return site.visitor().post_json("/reset", json=body, headers={"Origin": origin})


def preflight(site: Site, origin: str, requested: str) -> TestResponse:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    headers["Access-Control-Request-Headers"] = requested
    return site.visitor().open("/reset", method="OPTIONS", headers=headers)


@pytest.mark.requirement("R6")
def test_form_needs_the_csrf_token_of_its_session(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    visitor = site.visitor()
    another_sessions = csrf_token(site.visitor().open("/reset"))
    for token in ("", "forged", another_sessions):
        answer = visitor.submit("/reset", identity="alice", csrf_token=token)
        assert answer.status_code == 400
        assert 'data-code="csrf_failed"' in answer.text
    for origin in (WEB, EVIL, "null"):  # a configured origin is no token
        answer = visitor.post_json("/reset", data={"identity": "alice"}, headers={"Origin": origin})
        assert (answer.status_code, 'data-code="csrf_failed"' in answer.text) == (400, True)
    json = visitor.post_json("/reset", data={"identity": "alice"}, headers={"Accept": "application/json"})
    assert (json.status_code, json.json["response"]["error_code"]) == (400, "csrf_failed")
    text = visitor.post_json("/reset", data='{"identity": "alice"}', content_type="text/plain")
    assert text.status_code == 400
    assert site.messages() == []
    form = {"identity": "alice", "csrf_token": csrf_token(visitor.open("/reset"))}
    assert visitor.post_json("/reset", data=form, headers={"Origin": "null"}).location == "/check-mail"


@pytest.mark.requirement("R6", "R53")
def test_json_is_accepted_from_our_own_origin_and_with_cors_headers_from_configured_ones(make_site: Any) -> None:  # fmt: skip
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    own = ask(site, PUBLIC_URL)
    assert (own.status_code, own.json) == (200, {"meta": {"code": 200}, "response": {}})
    assert "Set-Cookie" not in own.headers
    for origin in (WEB, "http://localhost:5173", VIEW_ALONE):
        answer = ask(site, origin)
        assert answer.status_code == 200
        assert answer.headers["Access-Control-Allow-Origin"] == origin
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert "Origin" in answer.headers["Vary"]
        for requested in ("content-type, authentication-token", "traceparent,baggage"):  # libraries add some
            allowed = preflight(site, origin, requested)
            assert allowed.status_code == 200
            assert allowed.headers["Access-Control-Allow-Headers"] == requested
            assert "Access-Control-Request-Headers" in allowed.headers["Vary"]
            assert "POST" in allowed.headers["Access-Control-Allow-Methods"]


@pytest.mark.requirement("R6", "R53")
def test_json_from_any_other_origin_is_refused_without_cors_headers(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_CLIENTS=CLIENTS)
    near = [f"{WEB}.evil.example", f"{WEB}:444", WEB.upper(), "http://app.example.com"]
    for origin in (EVIL, "null", "*", "http://127.0.0.1:5001", "myapp://reset", *near):
        answer = ask(site, origin)
        assert answer.status_code == 403, origin
        assert answer.json["response"]["error_code"] == "origin_not_allowed"
        for refused in (answer, preflight(site, origin, "content-type")):
            assert "Access-Control" not in str(refused.headers)
    assert site.messages() == []
