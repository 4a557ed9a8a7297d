"""The client of the breach service. No call outlives its deadline."""

import hashlib
import socket
import threading
import time
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from support.raw_server import Talk, raw_server, send, send_forever, stay_silent
from support.site import NEW_PASSWORD, Site, load_settings, wait_for

from app.accounts import breaches
from app.accounts.breaches import BreachesUnknown, count_breaches
from app.web import outgoing

BREACHED = "this one was in a breach"
DIGEST = hashlib.sha1(BREACHED.encode(), usedforsecurity=False).hexdigest().upper()
PADDING = "0" * 35 + ":0"
OK = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
FAILURES: dict[str, Talk] = {
    "silent": stay_silent,
    "error": send("HTTP/1.1 500 Error\r\n\r\n"),
    "not ASCII": send(OK, "ünreadable"),
    "empty": send(OK),
    "captive portal": send(OK, "<html>Please log in</html>"),
    "no count": send(OK, "0" * 35),
    "cut off": send("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", PADDING),
    "lines without end": send_forever(OK.encode(), f"{PADDING}\r\n".encode(), 0.05),
    "redirect": send("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"),
}


@pytest.fixture(autouse=True)
def closed_circuit_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)


def site_with(make_site: Any, service: str, check: str) -> Site:
    site: Site = make_site(SECURITY_PASSWORD_CHECK_BREACHED=check, RECOVERY_BREACHES_URL=f"http://{service}")
    return site


def use(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(RECOVERY_BREACHES_URL=f"http://{service}")
    monkeypatch.setattr(breaches, "current", lambda: settings)


def redeem(site: Site, link: str, password: str) -> Any:
    return site.visitor().post_json(link, json={"password": password}).json["response"]  # type: ignore[index]


@pytest.mark.requirement("R31")
def test_breached_password_is_refused_and_only_five_characters_are_sent(make_site: Any) -> None:
    requests: list[bytes] = []
    with raw_server(send(OK, f"{PADDING}\r\n{DIGEST[5:]}:3"), requests) as service:
        site = site_with(make_site, service, "strict")
        link = site.new_link()
        assert redeem(site, link, BREACHED)["error_code"] == "password_breached"
        assert redeem(site, link, NEW_PASSWORD) == {}
    assert requests[0].startswith(f"GET /range/{DIGEST[:5]} HTTP".encode())
    assert b"add-padding: true" in requests[0].lower()


@pytest.mark.requirement("R31")
def test_breach_service_outage_refuses_if_strict_and_else_leaves_the_local_list(
    make_site: Any, caplog: pytest.LogCaptureFixture
) -> None:
    requests: list[bytes] = []
    with raw_server(FAILURES["error"], requests) as service:
        strict, lenient = (site_with(make_site, service, check) for check in ("strict", "best-effort"))
        assert redeem(strict, strict.new_link(), BREACHED)["error_code"] == "unavailable"
        assert "breach service (RECOVERY_BREACHES_URL) skipped" in caplog.text
        link = lenient.new_link()
        assert redeem(lenient, link, "passwordpassword")["error_code"] == "password_common"
        assert redeem(lenient, link, BREACHED) == {}
    assert len(requests) == 1  # the circuit breaker is open


@pytest.mark.requirement("R31")
def test_breach_service_failures_open_the_circuit_breaker_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert breaches.WAIT_SECONDS == 2
    monkeypatch.setattr(breaches, "WAIT_SECONDS", 0.2)
    for failure, talk in FAILURES.items():
        requests: list[bytes] = []
        monkeypatch.setattr(breaches._Breaker, "open_until", 0.0)
        with raw_server(talk, requests) as service:
            use(service, monkeypatch)
            start = time.monotonic()
            for _ in range(2):
                with pytest.raises(BreachesUnknown):
                    count_breaches(BREACHED)
            assert time.monotonic() - start < 1.2, failure
        assert len(requests) == 1, failure


def test_dripping_service_holds_few_threads_and_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaches, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(breaches, "BREAKER_SECONDS", 0)
    monkeypatch.setattr(outgoing, "CALLS_MAX", 3)
    state = SimpleNamespace(start="HTTP/1.1 200 OK\r\nX-A: ", is_dripping=True)

    def drip(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(state.start.encode())
            while state.is_dripping:
                connection.sendall(b"x")
                time.sleep(0.05)

    def talk(connection: socket.socket) -> None:  # to several at a time
        threading.Thread(target=drip, args=(connection.dup(),), daemon=True).start()

    def threads() -> int:
        return sum(thread.name.startswith("call to 127.0.0.1") for thread in threading.enumerate())

    with raw_server(talk) as service:
        use(service, monkeypatch)
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(BreachesUnknown):
                count_breaches(BREACHED)
            assert time.monotonic() - began < 5
        assert threads() == 3
        state.start, state.is_dripping = f"{OK}{DIGEST[5:]}:3", False
        wait_for(lambda: threads() == 0, seconds=5)
        assert count_breaches(BREACHED) == 3
