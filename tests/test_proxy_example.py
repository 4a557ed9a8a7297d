"""examples/proxy: an application behind a reverse proxy, with the sign-in of Sparekey and no code of its own."""

import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from support.admin import Admin
from support.http_browser import HttpBrowser
from support.mailbox import Mailbox, link_in
from support.nginx import replaced
from support.servers import free_port, listening, skip_or_fail
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT

SPOOFED = {"Remote-User": "1", "Remote-Email": "admin@example.com", "Remote-Groups": "admin"}
# Many frameworks read these as the same.
LOOK_ALIKES = {name.replace("-", "_"): value for name, value in SPOOFED.items()}
EXAMPLE = ROOT / "examples" / "proxy"


@pytest.fixture
def application() -> Iterator[int]:
    port = free_port()
    with listening([sys.executable, str(EXAMPLE / "application.py"), "--port", str(port)], port):
        yield port


@pytest.fixture
def caddy(authority: trustme.CA, tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Starts the example's Caddy, as the fixture nginx does its nginx."""
    program = shutil.which("caddy")
    if program is None:
        skip_or_fail("Caddy is not installed")
    with ExitStack() as started:

        def start(port: int, behind: int, application: int) -> None:
            pem, file = tmp_path / "tls.pem", tmp_path / "Caddyfile"
            ports = {"127.0.0.1:8000": f"127.0.0.1:{behind}", "127.0.0.1:9000": f"127.0.0.1:{application}"}
            site = {"app.example.com {": f"https://localhost:{port} {{\n\ttls {pem} {pem}", **ports}
            options = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
            file.write_text(options + replaced(EXAMPLE / "Caddyfile", site))
            command, environ = [program, "run", "--config", str(file)], {"HOME": str(tmp_path), "PATH": ""}
            started.enter_context(listening(command, port, env=environ))

        yield start


@pytest.mark.parametrize("proxy", ["nginx", "caddy"])
@pytest.mark.requirement("R52", "R54")
def test_application_behind_a_proxy_knows_its_users(
    proxy: str,
    request: pytest.FixtureRequest,
    database: Callable[[], str],
    mailbox: Mailbox,
    application: int,
    tmp_path: Path,
) -> None:
    port = free_port()
    base = f"https://localhost:{port}"
    environ = {"FLASK_RECOVERY_AUTH": "id", "FLASK_RECOVERY_TRUSTED_PROXIES": "1"}
    admin = Admin(database(), mailbox.port, FLASK_RECOVERY_PUBLIC_URL=f"{base}/account", **environ)
    try:
        start: Callable[..., Any] = request.getfixturevalue(proxy)
        admin.serves()
        start(port, admin.port, application=application)
        tls = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        browser, stranger = HttpBrowser(base, tls=tls), HttpBrowser(base, tls=tls)
        sign_in_and_come_back(browser)
        account = browser.open("/account/me").json()["response"]["user"]["id"]
        spoof(browser, account)
        keep_out(stranger, port, tls)
        forget_and_reset(stranger, admin, mailbox)
        assert stranger.open("/").json()["user"]["account"] == account
        for page in ("readyz", "metrics"):  # /readyz reveals whether a request led to an email
            assert stranger.client.get(f"/account/{page}").status_code == 404
        assert "Sign in" in browser.open("/").text  # the reset has ended this session
        for words in (("create", "editor"), ("add", "alice@example.com", "editor")):
            assert admin.types("roles", *words).returncode == 0
        assert stranger.open("/").json()["user"]["groups"] == "editor"
        assert admin.types("users", "deactivate", "alice@example.com").returncode == 0
        assert "Sign in" in stranger.open("/").text
        admin.stops()
        refused = stranger.client.get("/")  # no answer is no permission
        assert refused.status_code in (500, 502)
    finally:
        admin.stops()


def sign_in_and_come_back(browser: HttpBrowser) -> None:
    """Open a page of the application, and see it after the sign-in."""
    uri, path = "/notes/a%20b?page=2&q=%C4%B0", "/notes/a b?page=2&q=%C4%B0"
    redirected = browser.client.get(uri, headers=SPOOFED)
    assert redirected.status_code == 302
    assert "/account/login?next=" in redirected.headers["Location"]
    home = browser.submit(uri, identity="alice", password=OLD_PASSWORD)
    assert home.json()["path"] == path
    assert home.json()["user"]["email"] == "alice@example.com"


def spoof(browser: HttpBrowser, account: str) -> None:
    """Send headers of another account. The application sees the real one, and no groups, of which there are none."""
    user = {"account": account, "email": "alice@example.com", "groups": ""}
    for spoofed in (SPOOFED, {name.lower(): value for name, value in SPOOFED.items()}, LOOK_ALIKES):
        assert browser.client.get("/x", headers=spoofed).json()["user"] == user
    posted = browser.client.post("/x", content="a note", headers=SPOOFED)
    assert posted.json() == {"path": "/x?", "user": user, "posted": "a note"}


def keep_out(stranger: HttpBrowser, port: int, tls: ssl.SSLContext) -> None:
    """Nobody who is not signed in reaches the application, however it is asked."""
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        answer = stranger.client.request(method, "/x", headers=SPOOFED, content="a note")
        assert answer.status_code == 302, method
        assert "/account/login" in answer.headers["Location"]
    program = stranger.client.get("/x", headers={"Accept": "application/json"})
    assert program.status_code in (302, 401)
    for head in ("GET /x HTTP/1.0", "GET //account/../x HTTP/1.1", "GET /account/%2e%2e/x HTTP/1.1"):
        connection = socket.create_connection(("127.0.0.1", port))
        with tls.wrap_socket(connection, server_hostname="localhost") as client:
            client.sendall(
                f"{head}\r\nHost: localhost\r\nRemote-User: 1\r\nConnection: close\r\n\r\n".encode()
            )
            assert b'"user"' not in b"".join(iter(lambda: client.recv(65_536), b"")), head


def forget_and_reset(stranger: HttpBrowser, admin: Admin, mailbox: Mailbox) -> None:
    stranger.submit("/account/reset", identity="alice")
    admin.types("worker", "--once")
    passwords = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    assert "/reset-done" in str(stranger.submit(link_in(mailbox.wait_for(1)), **passwords).url)
    assert stranger.submit("/x", identity="alice", password=NEW_PASSWORD).json()["path"] == "/x?"
