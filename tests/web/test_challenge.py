"""A challenge before a request for an email: who needs one, what it is worth, and its widget in a browser."""

import base64
import hashlib
import json
import time
from typing import Any
from unittest.mock import Mock

import altcha
import pytest
from playwright.sync_api import Browser
from support.live import base_url, live
from support.site import ROOT, SECRETS, Site

from app.web import challenge

VENDOR = ROOT / "app/pages/static/vendor/altcha"
# Of the released package altcha 3.2.2.
RELEASED = {
    "LICENSE.txt": "bee1fb9d9c97d42c12c22332c5250f2fb1ef5c2321f6f82beb23e3b77be50a29",
    "altcha.css": "03622256effb4e962d0c1da9a59684cf237f541f290703934c07a97dabcbad47",
    "altcha.min.js": "959494398e8fcde3414d09309ade24b444ede098b04dec1514f4754279bff031",
    "pbkdf2.js": "7862add9c9d3d847ded3da928edcf406b46478754b9883351111414825b9c86f",
}
ON = {"RATELIMIT_ENABLED": True, "RECOVERY_LIMIT_SOURCE": "1000 per minute"}
ALWAYS = {**ON, "RECOVERY_CHALLENGE": "always"}
REQUIRED = "challenge_required"


@pytest.fixture(autouse=True)
def little_work(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "chromium" not in request.fixturenames:
        monkeypatch.setattr(challenge, "TRIES", 2)


def solve(site: Site, **changes: Any) -> str:
    """Solve a challenge as a client does, with its library."""
    answer: Any = site.visitor().open("/challenge").json
    answer["parameters"] |= changes
    made = altcha.Challenge.from_dict(answer)
    solution = altcha.solve_challenge(made)
    assert solution is not None
    return altcha.Payload(made, solution).to_base64()


def ask(site: Site, solution: Any = None, source: str = "192.0.2.1", identity: str = "alice") -> str:
    """Request a link in JSON, and return the error code, or nothing."""
    body = {"identity": identity} | ({} if solution is None else {"altcha": solution})
    answer = site.visitor().post_json("/reset", json=body, environ_overrides={"REMOTE_ADDR": source})
    return str(answer.json["response"].get("error_code", ""))  # type: ignore[index]


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("store", ["memory", "redis"])
@pytest.mark.requirement("R56")
def test_solved_challenge_is_worth_one_request_in_both_stores(
    make_site: Any, request: pytest.FixtureRequest, store: str
) -> None:
    uri = request.getfixturevalue("redis").url if store == "redis" else "memory://"
    sites = [make_site(**ALWAYS, RATELIMIT_STORAGE_URI=uri) for _ in range(2 if store == "redis" else 1)]
    solution = solve(sites[0])
    respelled = encode(json.dumps(json.loads(base64.b64decode(solution)), indent=1))
    assert [ask(sites[0], one) for one in (None, solution)] == [REQUIRED, ""]
    assert {ask(site, one) for site in sites for one in (solution, respelled)} == {REQUIRED}
    assert len(sites[0].messages()) == 1
    key = {"SECRET_KEY": "qW7Zr2Lx9VbN4mKtYp6HsD", "SECRET_KEY_FALLBACKS": [SECRETS["FLASK_SECRET_KEY"]]}
    assert ask(make_site(**ALWAYS, **key), solve(sites[0])) == ""  # after the rotation of the key


def test_what_solves_nothing_is_refused(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(**ALWAYS)
    right = json.loads(base64.b64decode(solve(site)))
    wrong_key = {**right, "solution": {**right["solution"], "derivedKey": "00" * 32}}
    unsigned = {**right, "challenge": {"parameters": right["challenge"]["parameters"]}}
    texts = ["", "x", "null", "[]", "{}", '{"challenge": [], "solution": 1}']
    texts += ['{"challenge": {"parameters": 5}, "solution": {}}', json.dumps(wrong_key), json.dumps(unsigned)]
    made_up = [*map(encode, texts), "é", "=", "A" * 5000, 5, ["x"], {}, None]
    made_up += [solve(site, expiresAt=int(time.time()) + 10**6), solve(site, cost=1, keyPrefix="00")]
    assert {ask(site, value) for value in made_up} == {REQUIRED}
    late = solve(site)
    monkeypatch.setattr("altcha.v2.time", Mock(time=lambda: time.time() + 601, monotonic=time.monotonic))
    assert ask(site, late) == REQUIRED
    assert site.messages() == []


@pytest.mark.parametrize(("rates", "last"), [("SOURCE", ""), ("TOTAL", REQUIRED)])
@pytest.mark.requirement("R56")
def test_challenge_begins_under_load_of_one_network_or_of_all(make_site: Any, rates: str, last: str) -> None:
    settings = {"RECOVERY_CHALLENGE": "under-load", f"RECOVERY_CHALLENGE_{rates}": "2 per minute"}
    site: Site = make_site(**ON, **settings)
    for source, identity, code in (
        ("2001:db8::1", "alice", ""),
        ("2001:db8::2", "nobody", ""),  # known and unknown accounts count alike
        ("2001:db8::3", "alice", REQUIRED),
        ("2001:db8::4", "nobody", REQUIRED),
        ("192.0.2.9", "alice", last),
    ):
        page = site.visitor().open("/reset", environ_overrides={"REMOTE_ADDR": source})
        assert ("altcha-widget" in page.text) is bool(code), source  # the page knows before
        assert ask(site, source=source, identity=identity) == code, source
    assert ask(site, solve(site), source="2001:db8::3") == ""


def test_challenge_is_for_its_pages_alone_and_off_by_default(make_site: Any, site: Site) -> None:
    assert site.visitor().open("/challenge").status_code == 404
    page = site.visitor().open("/reset")
    assert "altcha" not in page.text
    assert "worker-src" not in page.headers["Content-Security-Policy"]
    challenged: Site = make_site(**ALWAYS, SECURITY_CONFIRMABLE=True, SECURITY_USERNAME_RECOVERY=True)
    for path in ("/reset", "/confirm", "/recover-username"):
        page, refused = challenged.visitor().open(path), challenged.visitor().submit(path, identity="alice")
        for answer in (page, refused):
            assert "; worker-src 'self'; script-src 'nonce-" in answer.headers["Content-Security-Policy"]
        assert (refused.status_code, "Please try again." in refused.text) == (400, True)
        assert 'value="alice"' in refused.text
        assert "needs JavaScript" in page.text.partition("<noscript>")[2]
    for path in ("/login", "/check-mail", "/challenge", "/"):
        assert "worker-src" not in challenged.visitor().open(path).headers["Content-Security-Policy"]


def test_widget_is_the_released_one() -> None:
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()} == RELEASED


@pytest.mark.requirement("R50")
def test_browser_solves_the_challenge_when_the_form_is_sent(make_site: Any, chromium: Browser) -> None:
    """By keyboard, under the CSP, with nothing from elsewhere. A screen reader hears the widget's texts."""
    with live(make_site, **ALWAYS) as site, chromium.new_context(locale="ar") as context:
        page, troubles, urls = context.new_page(), [], []
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: urls.append(request.url))
        page.goto(f"{base_url(site)}/reset")
        widget = page.locator("[aria-live] altcha-widget")
        widget.get_by_role("checkbox").wait_for()
        texts = page.locator("script[data-worker]").evaluate("script => ({...script.dataset})")
        assert widget.get_by_role("checkbox", name=texts["label"]).count() == 1
        page.keyboard.type("alice")
        page.keyboard.press("Enter")
        widget.get_by_text(texts["verifying"]).wait_for()
        page.wait_for_url("**/check-mail")
        site.mailbox.wait_for(1)
        assert troubles == []
        assert [url for url in urls if not url.startswith(base_url(site))] == []
        page.goto(f"{base_url(site)}/reset")
        widget.get_by_role("checkbox").wait_for()  # what is typed before the field has the focus is lost
        page.keyboard.type("bob")
        page.keyboard.press("Tab")
        page.keyboard.press("Space")  # as the checkbox offers
        widget.get_by_text(texts["verified"]).wait_for()
        page.get_by_role("button").click()
        site.mailbox.wait_for(2)


def test_client_of_another_origin_may_read_a_challenge(make_site: Any) -> None:
    site: Site = make_site(**ALWAYS, RECOVERY_CLIENTS={"web": {"origins": ["https://app.example.com"]}})
    headers = site.visitor().open("/challenge", headers={"Origin": "https://app.example.com"}).headers
    assert headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    assert (headers["Cache-Control"], "Set-Cookie" in headers) == ("no-store", False)
