"""Redeeming a link: the new password is stored whole, other access ends, and failures change nothing."""

import json
import re
import secrets
import string
from datetime import datetime
from typing import Any

import pytest
from support.database import dump
from support.redemption import redeem
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, csrf_token, load_settings

from app.mail import backends
from app.recovery import link as links
from app.settings.problems import SettingsError

EVIL = "https://evil.example"
FIELDS = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}


@pytest.mark.requirement("R6")
def test_redemption_from_another_site_is_refused(site: Site) -> None:
    link, visitor = site.new_link(), site.visitor()
    handle = visitor.open(link).location
    foreign_token = csrf_token(site.visitor().open("/reset"))
    attempts: list[dict[str, Any]] = [
        {"data": FIELDS},
        {"data": {**FIELDS, "csrf_token": foreign_token}},
        {"data": json.dumps(FIELDS), "content_type": "text/plain"},
        {"json": FIELDS, "headers": {"Origin": EVIL}},
        {"json": FIELDS, "headers": {"Origin": "null"}},
    ]
    for url in (handle, link):
        for attempt in attempts:
            assert visitor.post_json(url, **attempt).status_code in (400, 403), attempt
    assert site.password_works(OLD_PASSWORD)
    assert redeem(site, "form", link)


@pytest.mark.requirement("R27", "R28")
def test_password_is_not_truncated_trimmed_or_folded(site: Site) -> None:
    spaced = " correct Horse Battery staple, and a Few More Words after That! "
    accents = "déjà-vu à l'école, où chacun écrit élégamment ce qu'il a appris: été"
    longest = f"{accents}, {accents[::-1]}"[:126] + "éZ"
    for by, password, others in (
        ("form", spaced, (spaced.strip(), spaced.lower(), spaced[:-1] + "?")),
        ("json", spaced, (spaced.strip(), spaced.lower())),
        ("form", longest, (longest[:-1] + "z", longest[:-1])),
        ("json", accents, (accents[:-1], accents.replace("é", "e"))),
    ):
        assert redeem(site, by, site.new_link(), password)
        assert [typed for typed in (password, *others) if site.password_works(typed)] == [password]
        site.work()  # the notice
    alice, password = site.visitor(), "!\"#$%&'()*+,-./ ~ 🗝 decomposed e\u0301"
    alice.sign_in(password=accents)
    alice.submit("/change", password=accents, new_password=password, new_password_confirm=password)
    assert site.password_works(password.replace("e\u0301", "é"))


@pytest.mark.requirement("R29")
def test_password_has_no_composition_rules_expiry_or_hints(site: Site) -> None:
    password = "".join(secrets.choice(string.ascii_lowercase) for _ in range(15))
    assert redeem(site, "form", site.new_link(), password)
    site.change(create_datetime=datetime(2024, 1, 1), update_datetime=datetime(2024, 1, 1))
    alice = site.visitor()
    assert alice.submit("/login", identity="alice", password=password).location == "/"
    site.work()
    pages = [alice.open(path) for path in ("/reset", "/login", "/change")]
    pages.append(alice.open(site.new_link("bob"), follow_redirects=True))
    fields = {name for page in pages for name in re.findall(r'<input[^>]*name="(\w+)"', page.text)}
    passwords = {"password", "password_confirm", "new_password", "new_password_confirm"}
    assert fields <= {"identity", "username", "csrf_token", "remember", "next", "submit", *passwords}
    with pytest.raises(SettingsError, match="no composition rules"):
        load_settings(SECURITY_PASSWORD_COMPLEXITY_CHECKER="zxcvbn")


@pytest.mark.requirement("R37", "R45")
def test_redemption_in_json_signs_nobody_in_and_the_signed_in_user_out(site: Site) -> None:
    link, mallory = site.new_link(), site.visitor()
    mallory.sign_in("bob")
    answer = mallory.post_json(link + "?include_auth_token", json=FIELDS)
    assert answer.json == {"meta": {"code": 200}, "response": {}}
    assert not mallory.is_signed_in()
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R36")
def test_redemption_ends_every_session_cookie_and_token(make_site: Any) -> None:
    site: Site = make_site(SECURITY_REFRESH_TOKEN=True, SECURITY_TOKEN_MAX_AGE="1 day")
    link, login = site.new_link(), {"identity": "alice", "password": OLD_PASSWORD, "remember": True}
    session, remembered, program = (site.visitor() for _ in range(3))
    for visitor in (session, remembered):
        visitor.post_json("/login", json=login)
    answer = program.post_json("/login?include_auth_token", json=login)
    token = {"Authentication-Token": answer.json["response"]["user"]["authentication_token"]}  # type: ignore[index]
    for visitor, cookie in ((session, "remember"), (remembered, "session"), (program, "session")):
        visitor.client.delete_cookie(f"sparekey_{cookie}", domain="127.0.0.1")
    program.client.delete_cookie("sparekey_remember", domain="127.0.0.1")

    def statuses() -> list[int]:
        accept = {"Accept": "application/json"}
        answers = [visitor.open("/change", headers=accept) for visitor in (session, remembered)]
        answers.append(program.open("/change", headers={**accept, **token}))
        answers.append(program.post_json("/refresh-token", json={}))
        return [answer.status_code for answer in answers]

    assert statuses() == [200] * 4
    assert redeem(site, "form", link)
    assert statuses() == [401, 401, 401, 400]


@pytest.mark.requirement("R34", "R35")
def test_redemption_succeeds_while_relay_is_down_and_notice_follows(site: Site) -> None:
    link, port = site.new_link(), site.app.config["MAIL_PORT"]
    site.app.config["MAIL_PORT"] = free_port()
    backends.mailman.init_app(site.app)
    assert redeem(site, "form", link)
    assert site.password_works(NEW_PASSWORD)
    assert (site.messages()[-1]["kind"], site.messages()[-1]["state"]) == ("reset_notice", "waiting")
    site.app.config["MAIL_PORT"] = port
    backends.mailman.init_app(site.app)
    site.work()
    assert site.mailbox.envelopes[-1] == ["alice@example.com"]
    assert site.messages()[-1]["state"] == "sent"


@pytest.mark.requirement("R66")
def test_unexpected_error_reveals_and_changes_nothing(site: Site, monkeypatch: Any) -> None:
    link, visitor = site.new_link(), site.visitor()
    form = {**FIELDS, "csrf_token": csrf_token(visitor.open("/reset"))}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "text/html", {}),
        ("GET", "application/json", {}),
        ("POST", "text/html", {"data": form}),
        ("POST", "application/json", {"json": FIELDS}),
    ]
    private = (link[-43:], "/srv", "KeyError", "Traceback", "Werkzeug", "Flask", "Python", "SECRET")
    before = dump(site)
    with monkeypatch.context() as broken:
        broken.setattr(links, "resolve", lambda token: {}[f"/srv/secret.py knows no {token}"])
        for method, accept, body in requests:
            answer = visitor.open(link, method=method, headers={"Accept": accept}, **body)
            assert (answer.status_code, answer.mimetype) == (500, accept)
            assert [text for text in private if text in answer.text + str(answer.headers)] == []
    assert dump(site) == before
    assert redeem(site, "json", link)
