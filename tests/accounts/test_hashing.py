"""Password hashing: Argon2id, at a limited concurrency."""

import re
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask_security.utils import get_hmac
from passlib.hash import argon2, pbkdf2_sha256
from support.admin import Admin
from support.servers import NO_TLS, free_port
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, load_settings, wait_for

from app.accounts import hashing
from app.accounts.models import User
from app.settings.problems import SettingsError

OPTIONS = "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS"


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
    body = {"identity": "alice", "password": "wrong"}
    with ThreadPoolExecutor(6) as threads:
        requests = [threads.submit(site.visitor().post_json, "/login", json=body) for _ in range(6)]
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


@BOTH
@pytest.mark.requirement("R32")
def test_reset_requests_do_not_wait_for_forty_sign_ins(database: Callable[[], str]) -> None:
    admin = Admin(database(), free_port())
    is_over = threading.Event()

    def sign_in(number: int) -> set[int]:
        codes, body = set(), {"identity": ("alice", "nobody")[number % 2], "password": "wrong"}
        with httpx.Client(base_url=admin.base, timeout=60, verify=NO_TLS) as client:
            while not is_over.is_set():
                codes.add(client.post("/login", json=body).status_code)
        return codes

    try:
        admin.serves(1, None)
        with (
            ThreadPoolExecutor(40) as people,
            httpx.Client(base_url=admin.base, timeout=60, verify=NO_TLS) as client,
        ):
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
    body = {"identity": "alice", "password": "wrong"}
    with ThreadPoolExecutor(hashing.WAITING_MAX) as threads:
        for _ in range(hashing.WAITING_MAX):
            threads.submit(site.visitor().post_json, "/login", json=body)
        wait_for(lambda: queue._places._value == 0)
        assert site.visitor().post_json("/login", json=body).status_code == 503
        release.set()


def test_new_password_is_hashed_once(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(RECOVERY_HASHES_AT_ONCE=2)
    context, secrets = site.app.extensions["security"].pwd_context._context, []
    hash_for_real = context.hash

    def count(secret: Any, **options: Any) -> str:
        secrets.append(secret)
        return str(hash_for_real(secret, **options))

    monkeypatch.setattr(context, "hash", count)
    assert site.visitor().set_password(site.new_link()).status_code == 302
    assert len(secrets) == 1
    assert site.password_works(NEW_PASSWORD)


@pytest.mark.requirement("R33")
def test_older_hashes_are_replaced_at_sign_in(site: Site) -> None:
    with site.app.app_context():
        peppered = get_hmac(OLD_PASSWORD)
    for scheme in (
        argon2.using(type="ID", memory_cost=8192, rounds=1, parallelism=1),
        pbkdf2_sha256.using(rounds=1000),
    ):
        site.change(password=scheme.hash(peppered))
        assert site.password_works(OLD_PASSWORD)
        assert site.rows(User)[0]["password"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")
        assert site.password_works(OLD_PASSWORD)


def argon2_options(memory: Any, rounds: int, parallelism: int) -> dict[str, Any]:
    names = ("argon2__memory_cost", "argon2__rounds", "argon2__parallelism")
    return {OPTIONS: dict(zip(names, (memory, rounds, parallelism), strict=True))}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (argon2_options(8192, 2, 1), "OWASP"),
        (argon2_options(19456, 1, 1), "OWASP"),
        (argon2_options("19456", 2, 1), "whole numbers"),
        (argon2_options(19456, 2, 0), "does not take this"),
        (argon2_options(19456, 2, 5000), "not take this"),
        ({OPTIONS: {"argon2__memory_cost": 19456}}, "argon2__rounds"),
        ({OPTIONS: {"bcrypt__rounds": 4}}, "nothing else"),
        *(
            ({name: scheme if name.endswith("HASH") else [scheme]}, name)
            for name in ("SECURITY_PASSWORD_HASH", "SECURITY_PASSWORD_SCHEMES")
            for scheme in ("plaintext", "des_crypt", "sha256_crypt")
        ),
    ],
)
@pytest.mark.requirement("R33")
def test_weak_hashing_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load_settings(**settings)
    load_settings(**argon2_options(9216, 4, 2))  # another of OWASP's sets


@pytest.mark.requirement("R32")
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory is in use")
def test_hundred_sign_ins_at_once_take_the_memory_of_the_hashes_that_run(database: Any, mailbox: Any) -> None:
    admin = Admin(database(), mailbox.port, FLASK_RECOVERY_HASHES_AT_ONCE="2")
    body = {"identity": "alice", "password": OLD_PASSWORD}

    def sign_in(_: int) -> int:
        return httpx.post(f"{admin.base}/login", json=body, timeout=60, verify=NO_TLS).status_code

    try:
        admin.serves(threads=100)
        assert sign_in(0) == 200
        [gunicorn] = admin.running
        children = Path(f"/proc/{gunicorn.pid}/task/{gunicorn.pid}/children").read_text().split()
        status = Path(f"/proc/{children[-1]}/status")

        def kib(name: str) -> int:
            return int(re.search(rf"{name}:\s+(\d+)", status.read_text())[1])  # type: ignore[index]

        before = kib("VmRSS")
        with ThreadPoolExecutor(100) as threads:
            statuses = Counter(threads.map(sign_in, range(100)))
        # On a slow machine some wait too long.
        assert statuses[200] >= 50, statuses
        assert statuses.keys() <= {200, 503}
        assert kib("VmHWM") - before < 100_000  # 100 hashes would take 1,900 MiB
    finally:
        admin.stops()
