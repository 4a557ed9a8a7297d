"""The story, as the three kinds of people live it. Read this first.

A browser user forgets a password, finds the mail, clicks, sets a new one and signs in: in real
Chromium, over http and https. A single-page client does the same in JSON. An admin sets it all up
from the command line, with the processes that run in production.
"""

from __future__ import annotations

import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from playwright.sync_api import Page
from support.admin import Admin, inherited
from support.mailbox import Mailbox, link_in
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, served


@pytest.fixture(params=["http", "https"])
def running(request: pytest.FixtureRequest, make_site: Any) -> Iterator[Site]:
    """A site on a real socket with a worker beside it."""
    port = free_port()
    tls = None
    if request.param == "https":
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("localhost", "127.0.0.1").configure_cert(tls)
    site: Site = make_site(RECOVERY_PUBLIC_URL=f"{request.param}://localhost:{port}")
    with served(site.app, port, tls):
        yield site


def sign_in(page: Page, base: str, identity: str, password: str) -> None:
    page.goto(f"{base}/login")
    page.get_by_label("Email address, username or phone number").fill(identity)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("identity", ["alice@example.com", "alice", "(415) 555-0123"])
@pytest.mark.requirement("R51", "R68")
def test_a_browser_user_resets_a_forgotten_password(running: Site, page: Page, identity: str) -> None:
    base = running.app.config["RECOVERY_PUBLIC_URL"]

    page.goto(base)
    page.get_by_role("link", name="Sign in").click()
    page.get_by_role("link", name="Forgot your password?").click()
    page.get_by_label("Email address, username or phone number").fill(identity)
    page.get_by_role("button", name="Send me a link").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Check your mail"

    page.goto(link_in(running.mailbox.wait_for(1)))
    assert re.fullmatch(rf"{base}/reset/~[\w-]+", page.url)
    assert "a•••@example.com" in page.inner_text("main")
    page.get_by_label("New password", exact=True).fill("short")
    page.get_by_label("New password again", exact=True).fill("short")
    page.get_by_role("button", name="Set new password").click()
    field = page.get_by_label("New password", exact=True)
    assert field.get_attribute("aria-invalid") == "true"
    assert "at least 15 characters" in page.inner_text("main")
    field.fill(NEW_PASSWORD)
    page.get_by_label("New password again", exact=True).fill(NEW_PASSWORD)
    page.get_by_role("button", name="Set new password").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Your password is changed"

    page.get_by_role("link", name="Sign in").click()
    page.get_by_label("Email address, username or phone number").fill(identity)
    page.get_by_label("Password").fill(OLD_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    assert "That did not match." in page.inner_text("main")
    sign_in(page, base, identity, NEW_PASSWORD)
    assert page.get_by_role("heading", level=1).inner_text() == "You are signed in"

    assert "was changed" in running.mailbox.wait_for(2)["Subject"]
    page.go_back()
    page.goto(link_in(running.mailbox.mails[0]))
    assert page.get_by_role("heading", level=1).inner_text() == "This link was already used"
    page.get_by_role("link", name="Ask for a new link").click()
    assert page.url == f"{base}/reset"


@pytest.mark.requirement("R51")
def test_a_link_opened_from_webmail_lands(running: Site, page: Page) -> None:
    """Webmail is another site: the navigation is cross-site, and so is the redirect behind it."""
    base = running.app.config["RECOVERY_PUBLIC_URL"]
    running.ask()
    link = link_in(running.mailbox.wait_for(1))
    webmail = f'<a href="{link}">your link</a>'
    page.route("http://webmail.example/", lambda route: route.fulfill(body=webmail, content_type="text/html"))
    page.goto("http://webmail.example/")
    page.get_by_role("link").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Choose a new password"
    assert page.url.startswith(f"{base}/reset/~")


@pytest.mark.requirement("R49", "R50")
def test_the_token_never_travels_in_a_referer(running: Site, page: Page) -> None:
    seen: list[tuple[str, str]] = []
    page.on("request", lambda request: seen.append((request.url, request.all_headers().get("referer", ""))))
    running.ask()
    link = link_in(running.mailbox.wait_for(1))
    page.goto(link)
    page.get_by_role("link", name="Sparekey").click()
    token = link.rsplit("/", 1)[1]
    assert len(seen) > 3
    assert not [referer for _, referer in seen if token in referer]
    assert {url.split("/reset")[0].split("/static")[0].split("/style")[0].rstrip("/") for url, _ in seen} == {
        running.app.config["RECOVERY_PUBLIC_URL"]
    }


@pytest.mark.requirement("R10")
def test_two_tabs_of_one_browser_keep_two_accounts_apart(running: Site, page: Page) -> None:
    base = running.app.config["RECOVERY_PUBLIC_URL"]
    tabs = {}
    for count, name in enumerate(("alice", "bob"), start=1):
        running.ask(name)
        tabs[name] = page.context.new_page()
        tabs[name].goto(link_in(running.mailbox.wait_for(count)))
    for name, tab in tabs.items():
        assert f"{name[0]}•••@example.com" in tab.inner_text("main")
        tab.get_by_label("New password", exact=True).fill(f"{name} has a new password")
        tab.get_by_label("New password again", exact=True).fill(f"{name} has a new password")
        tab.get_by_role("button", name="Set new password").click()
        assert tab.get_by_role("heading", level=1).inner_text() == "Your password is changed"
    for name in tabs:
        page.context.clear_cookies()
        sign_in(page, base, name, f"{name} has a new password")
        assert f"{name}@example.com" in page.inner_text("main")


def test_a_single_page_client_does_it_in_json(running: Site) -> None:
    base = running.app.config["RECOVERY_PUBLIC_URL"]
    with httpx.Client(base_url=base, verify=False) as client:  # noqa: S501  # its certificate is made here
        answer = client.post("/reset", json={"identity": "alice"})
        assert (answer.status_code, answer.json()) == (200, {"meta": {"code": 200}, "response": {}})
        link = link_in(running.mailbox.wait_for(1))
        short = client.post(link, json={"password": "short", "password_confirm": "short"})
        assert (short.status_code, list(short.json()["response"]["field_errors"])) == (400, ["password"])
        body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
        assert client.post(link, json=body).status_code == 200
        again = client.post(link, json=body)
        assert (again.status_code, again.json()["response"]["error_code"]) == (400, "link_used")
        wrong = client.post("/login", json={"identity": "alice", "password": OLD_PASSWORD})
        assert wrong.status_code == 400
        right = client.post("/login", json={"identity": "alice", "password": NEW_PASSWORD})
        assert right.status_code == 200


# --- the admin -------------------------------------------------------------------------------


@pytest.fixture
def admin(tmp_path: Path, mailbox: Mailbox) -> Iterator[Admin]:
    somebody = Admin(f"sqlite:///{tmp_path}/admin.db", mailbox.port, is_cold=True)
    yield somebody
    somebody.stops()


@pytest.mark.requirement("R39")
def test_an_admin_sets_it_up_and_a_user_recovers(admin: Admin, mailbox: Mailbox) -> None:
    assert admin.types("db", "upgrade").returncode == 0
    names = ("email:Carol@Example.com", "username: CaroL ", "us_phone_number:(415) 555-0123")
    made = admin.types("users", "create", *names, "--password", OLD_PASSWORD, "--active")
    assert (made.returncode, made.stderr) == (0, "")
    twin = admin.types("users", "create", "email:CAROL@EXAMPLE.COM", "--password", OLD_PASSWORD, "--active")
    assert twin.returncode == 2
    assert "already associated" in twin.stderr
    same_name = admin.types(
        "users", "create", "email:d@example.com", "username:carol", "--password", OLD_PASSWORD
    )
    assert same_name.returncode != 0
    assert "Traceback" not in same_name.stderr
    assert "another account has one of these identities" in same_name.stderr

    admin.serves()
    for identity in ("carol@example.com", "carol", "+14155550123"):
        assert httpx.post(f"{admin.base}/reset", json={"identity": identity}).status_code == 200
    assert admin.types("worker", "--once").stdout == "3 processed\n"
    assert [mail["To"] for mail in mailbox.mails] == ["carol@example.com"] * 3

    worker = admin.starts("manage.py", "worker")
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    assert httpx.post(link_in(mailbox.mails[-1]), json=body).status_code == 200
    assert "was changed" in mailbox.wait_for(4)["Subject"]
    log = admin.ends(worker)
    assert worker.returncode == 0
    assert "worker stopped" in log
    login = httpx.post(f"{admin.base}/login", json={"identity": "carol", "password": NEW_PASSWORD})
    assert login.status_code == 200


@pytest.mark.requirement("R63")
def test_a_server_with_a_bad_configuration_stops_at_once_in_plain_words() -> None:
    environ = {**inherited(), "FLASK_RECOVERY_PUBLIC_URL": "http://id.example.com"}
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{free_port()}", "app:create_app()"]
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 3
    assert "RECOVERY_PUBLIC_URL (FLASK_RECOVERY_PUBLIC_URL): must be https" in ended.stderr
    assert "SECRET_KEY (not set)" in ended.stderr
    assert "Traceback" not in ended.stderr
