"""Password hashing: Argon2id, at a limited concurrency. Which stored hashes are passwords."""

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from flask_security.utils import get_hmac
from passlib.hash import argon2, pbkdf2_sha256
from support.admin import Admin
from support.servers import NO_TLS, free_port
from support.site import NEW_PASSWORD, NOBODYS, OLD_PASSWORD, Site, wait_for

from app.accounts import hashing
from app.accounts.models import User

WRONG = {"identity": "alice", "password": "wrong"}


@pytest.mark.requirement("R32")
def test_hashing_beyond_the_limit_is_answered_as_busy(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site: Site = make_site(RECOVERY_HASHES_AT_ONCE=2)
    queue = site.app.extensions["security"].pwd_context
    running, counts, release = [0], [0], threading.Event()
    verify = queue._context.verify

    def verify_slowly(*arguments: Any, **options: Any) -> bool:
        running[0] += 1
        counts.append(running[0])
        release.wait(5)
        running[0] -= 1
        return bool(verify(*arguments, **options))

    monkeypatch.setattr(queue._context, "verify", verify_slowly)
    monkeypatch.setattr(hashing, "WAIT_SECONDS", 0.3)
    with ThreadPoolExecutor(6) as threads:
        requests = [threads.submit(site.visitor().post_json, "/login", json=WRONG) for _ in range(6)]
        wait_for(lambda: sum(request.done() for request in requests) == 4)
        assert site.visitor().open("/healthz").status_code == 200
        release.set()
    answers = sorted((request.result() for request in requests), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [400, 400, 503, 503, 503, 503]
    assert max(counts) == 2
    busy = answers[-1]
    assert busy.headers["Retry-After"] == "30"
    assert "Please try again in 30 seconds." in busy.text
    assert busy.json["response"]["error_code"] == "unavailable"  # type: ignore[index]


@pytest.mark.requirement("R32")
def test_reset_requests_do_not_wait_for_forty_sign_ins(database: Callable[[], str]) -> None:
    admin, is_over = Admin(database(), free_port()), threading.Event()

    def sign_in(number: int) -> set[int]:
        codes, body = set(), {"identity": ("alice", "nobody")[number % 2], "password": "wrong"}
        with httpx.Client(base_url=admin.base, timeout=60, verify=NO_TLS) as client:
            while not is_over.is_set():
                codes.add(client.post("/login", json=body).status_code)
        return codes

    client = httpx.Client(base_url=admin.base, timeout=60, verify=NO_TLS)
    try:
        admin.serves(1, None)
        with ThreadPoolExecutor(40) as people, client:
            sign_ins = [people.submit(sign_in, number) for number in range(40)]
            time.sleep(2)
            seconds = []
            for _ in range(15):
                start = time.perf_counter()
                assert client.post("/reset", json={"identity": "alice"}).status_code == 200
                seconds.append(time.perf_counter() - start)
            is_over.set()
            assert set().union(*(each.result() for each in sign_ins)) == {400}  # none is turned away
    finally:
        is_over.set()
        admin.stops()
    assert statistics.median(seconds) < 0.4


@pytest.mark.requirement("R32")
def test_more_hashes_than_may_wait_are_refused_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    queue, release = site.app.extensions["security"].pwd_context, threading.Event()
    monkeypatch.setattr(queue._context, "verify", lambda *_, **__: release.wait(5))
    with ThreadPoolExecutor(hashing.WAITING_MAX) as threads:
        for _ in range(hashing.WAITING_MAX):
            threads.submit(site.visitor().post_json, "/login", json=WRONG)
        wait_for(lambda: queue._places._value == 0)
        assert site.visitor().post_json("/login", json=WRONG).status_code == 503
        release.set()


def test_new_password_costs_one_hash_and_every_sign_in_one_verification(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    context = site.app.extensions["security"].pwd_context._context
    for name in ("hash", "verify"):
        real = getattr(context, name)
        counted = lambda *a, _n=name, _r=real, **k: (calls.append(_n), _r(*a, **k))[1]  # noqa: E731
        monkeypatch.setattr(context, name, counted)
    assert site.visitor().set_password(site.new_link()).status_code == 302
    assert calls == ["hash"]
    assert site.password_works(NEW_PASSWORD)
    for identity in ("alice", *NOBODYS.values()):
        calls.clear()
        site.visitor().post_json("/login", json={"identity": identity, "password": "not the password"})
        assert calls == ["verify"], identity


@pytest.mark.requirement("R33")
def test_older_hashes_are_replaced_at_sign_in(site: Site) -> None:
    with site.app.app_context():
        peppered = get_hmac(OLD_PASSWORD)
    weak = argon2.using(type="ID", memory_cost=8192, rounds=1, parallelism=1)
    for scheme in (weak, pbkdf2_sha256.using(rounds=1000)):
        site.change(password=scheme.hash(peppered))
        assert site.password_works(OLD_PASSWORD)
        assert site.rows(User)[0]["password"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R33")
def test_marker_or_plain_text_in_password_column_is_no_password(site: Site) -> None:
    for stored in ("!", "*", "$argon2id$other", "$2b$12$", "$5$x", "plain text that is stored"):
        site.change(User, User.username == "alice", password=stored)
        for password in (stored, OLD_PASSWORD):
            answer = site.visitor().post_json("/login", json={"identity": "alice", "password": password})
            assert answer.status_code == 400, (stored, password)
