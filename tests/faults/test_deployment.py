"""The documented deployment: gunicorn, worker, PostgreSQL, a TLS relay with login, and nginx with a prefix."""

import os
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flask_migrate
import httpx
import pytest
import trustme
from sqlalchemy import NullPool, create_engine, text
from support.admin import Admin
from support.http_browser import HttpBrowser
from support.mailbox import Mailbox, code_in, link_in
from support.relay import LOGIN, certificate, check_login, relay
from support.servers import NO_TLS, free_port
from support.site import BOTH, NEW_PASSWORD

from app.db.engine import db

RACERS = 64
RACE_ROUNDS = int(os.environ.get("RACE_ROUNDS", "1"))  # `make race` takes 20, `make storm` 200


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.requirement("R44", "R54")
def test_deployment_journey_behind_nginx_with_a_prefix(
    database: Callable[[], str], authority: trustme.CA, nginx: Any, tmp_path: Path
) -> None:
    port = free_port()
    base, ca = f"https://localhost:{port}/auth", str(tmp_path / "ca.pem")
    tls = {"tls_context": certificate(authority), "require_starttls": True}
    with relay(**tls, authenticator=check_login, auth_required=True) as box:
        settings = {
            "FLASK_RECOVERY_PUBLIC_URL": base,
            "FLASK_RECOVERY_TRUSTED_PROXIES": "1",
            "FLASK_MAIL_SERVER": "localhost",
            "FLASK_MAIL_USE_TLS": "true",
            "FLASK_MAIL_USERNAME": LOGIN.login.decode(),
            "FLASK_MAIL_PASSWORD": LOGIN.password.decode(),
            "FLASK_RECOVERY_MAIL_CA": ca,
        }
        with Admin(database(), box.port, **settings) as admin:
            admin.serves(workers=2, threads=4)
            admin.starts("manage.py", "worker")
            nginx(port, admin.port)
            browser = HttpBrowser(base, tls=ssl.create_default_context(cafile=ca))
            assert 'href="/auth/reset"' in browser.open("/login").text
            assert browser.submit("/reset", identity="(415) 555-0123").url == f"{base}/check-mail"
            link = link_in(box.wait_for(1))
            assert link.startswith(f"{base}/reset/")
            passwords = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
            assert browser.submit(link, **passwords).url == f"{base}/reset-done"
            home = browser.submit("/login", identity="alice", password=NEW_PASSWORD)
            assert "alice@example.com" in home.text
            assert "new password" in box.wait_for(2)["Subject"]
            cookies = list(browser.client.cookies.jar)
            names = {cookie.name.partition("~")[0].removeprefix("__Host-sparekey_") for cookie in cookies}
            assert names == {"session", "known", "link"}
            for cookie in cookies:  # or browsers refuse the prefix
                assert (cookie.secure, cookie.path, cookie.domain_specified) == (True, "/", False)
            ready = {"database": True, "worker": True, "mail": True, "problems": [], "reason": None}
            assert httpx.get(f"{admin.base}/readyz").json() == ready
            assert httpx.get(f"{admin.base}/login", headers={"Host": "evil.example"}).status_code == 400


@BOTH
@pytest.mark.requirement("R13")
def test_deployment_one_of_64_clients_redeems_a_link(
    database: Callable[[], str], mailbox: Mailbox, capsys: Any
) -> None:
    """Through gunicorn, with two processes of 16 threads. Eight clients have the code."""
    uri = database()
    options = {"FLASK_RECOVERY_MAIL_DAILY_CAP": "100000", "FLASK_RECOVERY_CODE": "true"}
    with Admin(uri, mailbox.port, **options) as admin:
        admin.serves(workers=2, threads=16)
        admin.starts("manage.py", "worker")
        for number in range(RACE_ROUNDS):
            mails = len(mailbox.mails)
            answer = httpx.post(f"{admin.base}/reset", json={"identity": "alice"})
            mail = mailbox.wait_for(mails + 1)
            code = {"request_id": answer.json()["response"]["request_id"], "code": code_in(mail)}
            codes = race(link_in(mail), code, number)
            [winner] = [password for password, code in codes.items() if code == "redeemed"]
            # An id has five tries, and fewer if some come at once.
            assert Counter(codes.values())["code_invalid"] >= RACERS // 8 - 5, codes
            assert set(codes.values()) == {"redeemed", "link_used", "code_invalid"}, codes
            assert "new password" in mailbox.wait_for(mails + 2)["Subject"]
            login = {"identity": "alice", "password": winner}
            assert httpx.post(f"{admin.base}/login", json=login).status_code == 200
        assert len(mailbox.mails) == 2 * RACE_ROUNDS  # one notice a round
        assert count_redemptions(uri) == (RACE_ROUNDS, RACE_ROUNDS)
        with capsys.disabled():
            print(f"\n{RACE_ROUNDS} rounds of {RACERS} on {uri.split(':')[0]}: one winner each")
        assert admin.types("worker", "--once").stdout == "0 processed\n"


def race(link: str, code: dict[str, str], number: int) -> dict[str, str]:
    """Redeem a link or, every eighth client, its code with many passwords at once. Return the code for each."""
    start = threading.Barrier(RACERS)
    base = link.rsplit("/", 1)[0]

    def redeem(password: str) -> str:
        target = link
        with httpx.Client(timeout=60, verify=NO_TLS) as client:
            start.wait()
            if int(password[-2:]) % 8 == 0:
                response = client.post(f"{base}/code", json=code).json()["response"]
                target = f"{base}/{response.get('token')}"
                if "token" not in response:
                    return str(response["error_code"])
            answer = client.post(target, json={"password": password, "password_confirm": password})
        return str(answer.json()["response"].get("error_code", "redeemed"))

    passwords = [f"round {number}, visitor {racer:02}" for racer in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as pool:
        return dict(zip(passwords, pool.map(redeem, passwords), strict=True))


def count_redemptions(uri: str) -> tuple[Any, Any]:
    """Return the numbers of redeemed links and of events."""
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        links = connection.scalar(text("SELECT count(*) FROM reset_link WHERE redeemed_at IS NOT NULL"))
        events = connection.scalar(text("SELECT count(*) FROM recovery_event WHERE kind = 'redeemed'"))
    return links, events


@BOTH
def test_deployment_two_machines_upgrade_the_schema_at_once(
    database: Callable[[], str], make_site: Any
) -> None:
    admin = Admin(uri := database(), free_port())
    with make_site(SQLALCHEMY_DATABASE_URI=uri).app.app_context():
        flask_migrate.downgrade(revision="base")
        upgrades = [admin.starts("manage.py", "db", "upgrade") for _ in range(2)]
        assert [process.wait(timeout=60) for process in upgrades] == [0, 0], admin.stops()
        assert db.session.scalars(text("SELECT version_num FROM sparekey_version")).all() == ["0001"]
    admin.stops()
