"""What a new password must be: long enough, not common, not about its owner, not breached, not the current one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from flask_security.utils import get_hmac
from passlib.hash import argon2, pbkdf2_sha256
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

from app.accounts import breaches, common_passwords, hashing
from app.accounts.models import User
from app.settings.problems import SettingsError


def redeem(site: Site, link: str, password: str) -> Any:
    return site.visitor().post_json(link, json={"password": password}).json["response"]  # type: ignore[index]


# --- the local list ---------------------------------------------------------------------------------

COMMON = [
    "123456789012345",
    "123456789987654321",
    "aaaaaaaaaaaaaaaa",
    "abcabcabcabcabcabc",
    "passwordpassword",
    "PassWord PassWord",
    "P@ssw0rdP@ssw0rd",
    "password123456789",
    "qwertyuiopasdfgh",
    "poiuytrewqlkjhgf",
    "1qaz2wsx3edc4rfv",
    "iloveyou iloveyou",
    "abcdefghijklmno",
    "!!password1234!!",
    "ｐａｓｓｗｏｒｄｐａｓｓｗｏｒｄ",
    "P@ssw0rd P@ssw0rd",
    "1q2w3e4r5t6y7u8i9o0p",
]


@pytest.mark.parametrize("password", COMMON)
@pytest.mark.requirement("R30")
def test_what_is_tried_first_is_refused(password: str) -> None:
    assert common_passwords.is_common(password)


@pytest.mark.parametrize(
    "password",
    [
        "my password is a tall green horse",
        "monkey 8317492649174",
        "correct horse battery staple",
        "🦊🌵🎺🧊🪁🧶🦉🍄🛶🎲🪐🧲🫖🦔🎻🥨",
        "!}#(%&^*)_+{>?<~[;",
        "kfwmqzhtrbxpldv",
        "密码密码很长的一句话没有人会猜到它",
        NEW_PASSWORD,
    ],
)
@pytest.mark.requirement("R29", "R30")
def test_a_phrase_is_compared_as_a_whole(password: str) -> None:
    assert not common_passwords.is_common(password)


@pytest.mark.parametrize(
    "password",
    [
        "alice@example.com",
        "ALICE.example.com",
        "alicealicealice",
        "alice1234!!!",
        "example2024",
    ],
)
@pytest.mark.requirement("R30")
def test_names_of_the_account_and_the_site_are_refused(password: str) -> None:
    assert common_passwords.is_about(password, ["alice@example.com", "alice", "", "Example"])
    assert not common_passwords.is_about("my name is alice, and that is all", ["alice@example.com", "alice"])


@pytest.mark.requirement("R30", "R34")
def test_a_refusal_says_why_and_how_to_do_better(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="The Example Bookshop")
    link = site.new_link()
    for password in (
        "passwordpassword",
        "alice@example.com",
        "the example bookshop!",
        "+14155550123+14155550123",
    ):
        refusal = redeem(site, link, password)
        assert refusal["error_code"] == "password_common", password
        assert "Take a few words" in refusal["field_errors"]["password"][0]
    page = site.visitor().set_password(link, "passwordpassword")
    assert "one of the first passwords" in page.text
    assert redeem(site, link, NEW_PASSWORD) == {}


@pytest.mark.requirement("R8", "R30")
def test_a_reset_may_set_the_current_password_and_a_change_may_not(site: Site) -> None:
    """A person who "forgot" it is not helped by a refusal, and comparing costs one hash more."""
    assert redeem(site, site.new_link(), OLD_PASSWORD) == {}
    visitor = site.visitor()
    visitor.sign_in()
    answer = visitor.submit(
        "/change", password=OLD_PASSWORD, new_password=OLD_PASSWORD, new_password_confirm=OLD_PASSWORD
    )
    assert "must be another one" in answer.text
    for password in ("passwordpassword", "alice@example.com"):
        answer = visitor.submit(
            "/change", password=OLD_PASSWORD, new_password=password, new_password_confirm=password
        )
        assert "Take a few words" in answer.text
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R8", "R30")
def test_the_command_line_has_the_same_rules(site: Site) -> None:
    runner = site.app.test_cli_runner()
    for password in ("passwordpassword", "alice@example.com", "too short"):
        done = runner.invoke(args=["users", "change_password", "alice", "--password", password])
        assert done.exit_code != 0, done.output
    assert site.password_works(OLD_PASSWORD)


# --- known breaches ---------------------------------------------------------------------------------

BREACHED = "this one was in a breach"


class Ranges(ThreadingHTTPServer):
    """Speaks as Have I Been Pwned does; `act` makes it answer otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RangeHandler)
        self.asked: list[tuple[str, Any]] = []
        self.act: Any = None


class RangeHandler(BaseHTTPRequestHandler):
    server: Ranges

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers))
        if self.server.act:
            self.server.act(self)
            return
        body = "\r\n".join(
            ["0" * 35 + ":0", "F8C2CBB74CCDCEB5CB14F6E17C4AA4C8C05:12", suffix_of(BREACHED) + ":3"]
        )
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


def suffix_of(password: str) -> str:
    return breaches.hashlib.sha1(password.encode()).hexdigest().upper()[5:]


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranges]:
    server = Ranges()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def checking(make_site: Any, ranges: Ranges, how: str) -> Site:
    site: Site = make_site(
        SECURITY_PASSWORD_CHECK_BREACHED=how, RECOVERY_BREACHES_URL=f"http://127.0.0.1:{ranges.server_port}"
    )
    return site


@pytest.mark.requirement("R31")
def test_a_breached_password_is_refused_and_five_characters_leave(make_site: Any, ranges: Ranges) -> None:
    site = checking(make_site, ranges, "strict")
    link = site.new_link()
    assert redeem(site, link, BREACHED)["error_code"] == "password_breached"
    [(path, headers)] = ranges.asked
    assert path == "/range/" + breaches.hashlib.sha1(BREACHED.encode()).hexdigest().upper()[:5]
    assert headers["Add-Padding"] == "true"
    assert redeem(site, link, NEW_PASSWORD) == {}


def hang(_handler: Any) -> None:
    time.sleep(4)


def fail(handler: Any) -> None:
    handler.send_error(500)


def babble(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write("ünreadable".encode())


def answer_with(body: bytes, status: int = 200, **headers: str) -> Any:
    def act(handler: Any) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def drip(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        for _ in range(12):
            handler.wfile.write(b"0" * 35 + b":0\n")
            time.sleep(0.4)


STRANGE = {
    "hangs": hang,
    "fails": fail,
    "babbles": babble,
    "drips": drip,
    "is empty": answer_with(b""),
    "is a portal": answer_with(b"<html>Please log in</html>"),
    "has no count": answer_with(b"0" * 35),
    "is cut off": answer_with(b"0" * 35 + b":0", **{"Content-Length": "5000"}),
    "leads elsewhere": answer_with(b"", 302, Location="http://127.0.0.1:1/"),
}


@pytest.mark.parametrize("act", STRANGE.values(), ids=STRANGE)
@pytest.mark.requirement("R31")
def test_an_outage_of_the_service_means_what_the_setting_says(
    make_site: Any, ranges: Ranges, act: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ranges.act = act
    strict, lenient = (checking(make_site, ranges, how) for how in ("strict", "best-effort"))
    start = time.monotonic()
    refusal = redeem(strict, strict.new_link(), BREACHED)
    assert time.monotonic() - start < 3
    assert refusal["error_code"] == "unavailable"
    assert "breach service (RECOVERY_BREACHES_URL) skipped" in caplog.text
    link = lenient.new_link()
    assert redeem(lenient, link, "passwordpassword")["error_code"] == "password_common"
    assert redeem(lenient, link, BREACHED) == {}
    assert len(ranges.asked) == 1  # the second did not ask at all


# --- hashing ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R32")
def test_at_most_so_many_hash_at_once_and_who_waits_too_long_is_told(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = make_site(RECOVERY_HASHES_AT_ONCE=2)
    gate = site.app.extensions["security"].pwd_context
    inside, most, hold = [0], [0], threading.Event()
    verify = gate._context.verify

    def watch(*how: Any, **options: Any) -> bool:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        hold.wait(5)
        inside[0] -= 1
        return bool(verify(*how, **options))

    monkeypatch.setattr(gate._context, "verify", watch)
    monkeypatch.setattr(hashing, "WAIT_SECONDS", 0.3)
    body = {"identity": "alice", "password": "wrong"}
    with ThreadPoolExecutor(6) as threads:
        answers = [threads.submit(site.visitor().post_json, "/login", json=body) for _ in range(6)]
        time.sleep(0.8)
        assert site.visitor().open("/healthz").status_code == 200
        hold.set()
    statuses = sorted(answer.result().status_code for answer in answers)
    assert (statuses, most[0]) == ([400, 400, 503, 503, 503, 503], 2)
    [busy, *_] = [answer.result() for answer in answers if answer.result().status_code == 503]
    assert busy.headers["Retry-After"]
    assert busy.json is not None
    assert busy.json["response"]["error_code"] == "unavailable"


@pytest.mark.requirement("R33")
def test_hashes_of_older_kinds_are_made_anew_at_sign_in(site: Site) -> None:
    with site.app.app_context():
        peppered = get_hmac(OLD_PASSWORD)
    weaker = argon2.using(type="ID", memory_cost=8192, rounds=1, parallelism=1).hash(peppered)
    older = pbkdf2_sha256.using(rounds=1000).hash(peppered)
    for stored in (weaker, older):
        site.change(User, User.username == "alice", password=stored)
        assert site.password_works(OLD_PASSWORD)
        hash_now = site.rows(User)[0]["password"]
        assert hash_now.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert site.password_works(OLD_PASSWORD)


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"argon2__memory_cost": 8192, "argon2__rounds": 2, "argon2__parallelism": 1}, "OWASP"),
        ({"argon2__memory_cost": 19456, "argon2__rounds": 1, "argon2__parallelism": 1}, "OWASP"),
        ({"argon2__memory_cost": "19456", "argon2__rounds": 2, "argon2__parallelism": 1}, "whole numbers"),
        ({"argon2__memory_cost": 19456}, "argon2__rounds"),
        ({"bcrypt__rounds": 4}, "nothing else"),
        ({"argon2__memory_cost": 19456, "argon2__rounds": 2, "argon2__parallelism": 0}, "does not take this"),
        ({"argon2__memory_cost": 19456, "argon2__rounds": 2, "argon2__parallelism": 5000}, "not take this"),
    ],
)
@pytest.mark.requirement("R33")
def test_weaker_hashing_than_owasp_allows_is_refused(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(SettingsError, match=remedy):
        load_settings(SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS=options)
    load_settings(
        SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS={
            "argon2__memory_cost": 9216,
            "argon2__rounds": 4,
            "argon2__parallelism": 2,
        }
    )


@pytest.mark.parametrize("name", ["SECURITY_PASSWORD_HASH", "SECURITY_PASSWORD_SCHEMES"])
@pytest.mark.parametrize("value", ["plaintext", "des_crypt", "sha256_crypt"])
@pytest.mark.requirement("R33")
def test_no_outdated_scheme_can_be_chosen(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(**{name: value if name.endswith("HASH") else [value]})


@pytest.mark.parametrize(
    "password", ["e\u0301" * 2_000_000, "\u0301" * 5_000_000, "\x00" * 1_000_000, "a" * 1_000_000]
)
@pytest.mark.requirement("R32")
def test_no_password_makes_the_rules_slow(site: Site, password: str) -> None:
    start = time.monotonic()
    with site.app.app_context():
        reasons, _ = site.app.extensions["security"].password_util.validate(password, False)
    assert reasons
    assert time.monotonic() - start < 1


def test_a_new_password_is_hashed_once_while_it_is_compared(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = make_site(RECOVERY_HASHES_AT_ONCE=2)
    gate, hashed = site.app.extensions["security"].pwd_context, []
    context = gate._context

    class Counting:
        def hash(self, secret: Any, **options: Any) -> str:
            hashed.append(secret)
            return str(context.hash(secret, **options))

        def __getattr__(self, name: str) -> Any:
            return getattr(context, name)

    monkeypatch.setattr(gate, "_context", Counting())
    assert site.visitor().set_password(site.new_link()).status_code == 302
    assert len(hashed) == 1
    assert site.password_works(NEW_PASSWORD)


def test_what_is_no_text_is_no_refused_password(site: Site) -> None:
    """The trail tells of the rules for passwords, not of requests that nobody could type."""
    answer = site.visitor().post_json(site.new_link(), json={"password": "a password \ud800 of no text"})
    assert (answer.json or {})["response"]["error_code"] == "invalid_request"
    assert "password_refused" not in site.events()
