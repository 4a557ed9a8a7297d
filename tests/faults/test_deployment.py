"""What an operator runs: gunicorn, worker, PostgreSQL, a TLS relay with a password, nginx with a prefix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from playwright.sync_api import Page
from sqlalchemy import NullPool, create_engine, text
from support.admin import Admin, inherited
from support.mailbox import Mailbox, link_in
from support.relay import LOGIN, certificate, check_login, relay
from support.servers import NO_TLS, free_port
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, ROOT, SECRETS

RACERS = 64
RACE_ROUNDS = int(os.environ.get("RACE_ROUNDS", "1"))  # `make race` takes 20, `make storm` 200


@pytest.fixture
def tls_relay(authority: trustme.CA) -> Iterator[Mailbox]:
    """A relay that takes mail only after STARTTLS and a login."""
    tls = {"tls_context": certificate(authority), "require_starttls": True}
    with relay(**tls, authenticator=check_login, auth_required=True) as box:
        yield box


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.requirement("R44", "R54", "R61")
def test_the_journey_as_an_operator_runs_it(
    database: Callable[[], str], tls_relay: Mailbox, nginx: Any, page: Page, tmp_path: Path
) -> None:
    port = free_port()
    base = f"https://localhost:{port}/auth"
    admin = Admin(
        database(),
        tls_relay.port,
        FLASK_RECOVERY_PUBLIC_URL=base,
        FLASK_RECOVERY_TRUSTED_PROXIES="1",
        FLASK_MAIL_SERVER="localhost",
        FLASK_MAIL_USE_TLS="true",
        FLASK_MAIL_USERNAME=LOGIN.login.decode(),
        FLASK_MAIL_PASSWORD=LOGIN.password.decode(),
        FLASK_RECOVERY_MAIL_CA=str(tmp_path / "ca.pem"),
    )
    try:
        assert admin.types("db", "upgrade").returncode == 0  # it is up already: nothing happens
        admin.serves(workers=2, threads=4)
        admin.starts("manage.py", "worker")
        log = nginx(port, admin.port)

        page.goto(f"{base}/")
        page.get_by_role("link", name="Forgot your password?").click()
        page.get_by_label("Email address, username or phone number").fill("(415) 555-0123")
        page.get_by_role("button").click()
        assert page.url == f"{base}/check-mail"
        link = link_in(tls_relay.wait_for(1))
        assert link.startswith(f"{base}/reset/")
        page.goto(link)
        page.get_by_label("New password", exact=True).fill(NEW_PASSWORD)
        page.get_by_label("New password again", exact=True).fill(NEW_PASSWORD)
        page.get_by_role("button").click()
        assert page.url == f"{base}/reset-done"
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Email address, username or phone number").fill("alice")
        page.get_by_label("Password").fill(NEW_PASSWORD)
        page.get_by_role("button").click()
        assert "alice@example.com" in page.inner_text("main")
        assert "was changed" in tls_relay.wait_for(2)["Subject"]
        assert {cookie["name"] for cookie in page.context.cookies()} == {
            "__Host-sparekey_session",
            "__Host-sparekey_known",
        }

        ready = {"database": True, "worker": True, "mail": True, "problems": []}
        assert httpx.get(f"{admin.base}/readyz").json() == ready
        assert httpx.get(f"{admin.base}/login", headers={"Host": "evil.example"}).status_code == 400
        written = log.read_text()
        assert "/auth/reset/[token]" in written
        assert link.rsplit("/", 1)[1] not in written
    finally:
        admin.stops()


@BOTH
@pytest.mark.requirement("R13")
def test_of_64_who_redeem_one_link_one_wins(
    database: Callable[[], str], mailbox: Mailbox, capsys: Any
) -> None:
    """Through gunicorn: two processes, 16 threads each."""
    uri = database()
    admin = Admin(uri, mailbox.port, FLASK_RECOVERY_MAIL_DAILY_CAP="100000")
    try:
        admin.serves(workers=2, threads=16)
        admin.starts("manage.py", "worker")
        for number in range(RACE_ROUNDS):
            mails = len(mailbox.mails)
            assert httpx.post(f"{admin.base}/reset", json={"identity": "alice"}).status_code == 200
            codes = _race(link_in(mailbox.wait_for(mails + 1)), number)
            [winner] = [password for password, code in codes.items() if code == "redeemed"]
            assert set(codes.values()) == {"redeemed", "link_used"}, codes
            assert "was changed" in mailbox.wait_for(mails + 2)["Subject"]
            login = {"identity": "alice", "password": winner}
            assert httpx.post(f"{admin.base}/login", json=login).status_code == 200
        assert len(mailbox.mails) == 2 * RACE_ROUNDS  # one notice a round
        assert redemptions(uri) == (RACE_ROUNDS, RACE_ROUNDS)  # links, and events
        with capsys.disabled():
            print(f"\n{RACE_ROUNDS} rounds of {RACERS} on {uri.split(':')[0]}: one winner each")
        assert admin.types("worker", "--once").stdout == "0 processed\n"
    finally:
        admin.stops()


def redemptions(uri: str) -> tuple[int, int]:
    engine = create_engine(uri, poolclass=NullPool)
    with engine.connect() as connection:
        links = connection.scalar(text("SELECT count(*) FROM reset_link WHERE redeemed_at IS NOT NULL"))
        events = connection.scalar(text("SELECT count(*) FROM recovery_event WHERE kind = 'redeemed'"))
    return links or 0, events or 0


def _race(link: str, number: int) -> dict[str, str]:
    codes: dict[str, str] = {}
    start = threading.Barrier(RACERS)

    def redeem(password: str) -> None:
        with httpx.Client(timeout=60, verify=NO_TLS) as client:
            start.wait()
            answer = client.post(link, json={"password": password, "password_confirm": password})
        codes[password] = answer.json()["response"].get("error_code", "redeemed")

    passwords = [f"round {number}, visitor {racer:02}" for racer in range(RACERS)]
    threads = [threading.Thread(target=redeem, args=(password,)) for password in passwords]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert OLD_PASSWORD not in codes
    return codes


def test_the_admins_command_runs_with_the_units_settings(tmp_path: Path) -> None:
    """docs/deploy/sparekey, with other places and without changing the user."""
    script = (ROOT / "docs/deploy/sparekey").read_text()
    for is_there, here in (
        ("/opt/sparekey", str(ROOT)),
        ("/etc/sparekey", str(tmp_path)),
        ("runuser -u sparekey -- .venv/bin/python", sys.executable),
    ):
        assert is_there in script
        script = script.replace(is_there, here)
    shutil.copy(ROOT / "config/production.toml", tmp_path / "sparekey.toml")
    for name, secret in zip(("secret-key", "password-salt"), SECRETS.values(), strict=True):
        (tmp_path / name).write_text(f"{secret}\n")
    for name, content in (
        ("secret-key-fallbacks", "[]"),
        ("mail-password", "a password"),
        ("metrics-token", ""),
    ):
        (tmp_path / name).write_text(f"{content}\n")
    command = ["sh", "-c", script, "sparekey", "check"]
    ended = subprocess.run(command, env=inherited(), capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "The configuration is fine." in ended.stdout
