"""The story of Sparekey. Read this first.

1. A user forgot a password. Sparekey mails a link, the user sets a new password with it and signs in.
2. A single-page app does the same in JSON.
3. An admin sets Sparekey up from the command line, and runs gunicorn and the worker.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page
from support.admin import Admin, inherited
from support.live import base_url, live, mailed_link
from support.mailbox import Mailbox, link_in
from support.servers import free_port
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT

IDENTITY = "Email, username, or phone number"


# --- A user in a browser, without JavaScript ---


@pytest.mark.parametrize(
    ("scheme", "identity"),
    [("http", "alice@example.com"), ("https", "(415) 555-0123")],  # either is alice
    ids=["http", "https"],
)
@pytest.mark.requirement("R51", "R68")
def test_user_resets_a_forgotten_password(make_site: Any, page: Page, scheme: str, identity: str) -> None:
    with live(make_site, scheme) as site:
        base = base_url(site)

        # The user asks for a link.
        page.goto(base)
        page.get_by_role("link", name="Forgot your password?").click()
        page.get_by_label(IDENTITY).fill(identity)
        page.get_by_role("button", name="Email me a link").click()
        see_heading(page, "Check your email")

        # The worker mails it. The link leads to a form, and its token leaves the address bar.
        link = link_in(site.mailbox.wait_for(1))
        page.goto(link)
        assert re.fullmatch(rf"{base}/reset/~[\w-]+", page.url)
        assert "a•••@example.com" in page.inner_text("main")

        # A short password is refused at its field, and the link still works.
        set_password(page, "short")
        field = page.get_by_label("New password", exact=True)
        assert field.get_attribute("aria-invalid") == "true"
        assert "at least 15 characters" in page.inner_text("main")
        set_password(page, NEW_PASSWORD)
        see_heading(page, "Your password has been changed")

        # Only the new password signs in.
        page.get_by_role("link", name="Sign in").click()
        sign_in(page, identity, OLD_PASSWORD)
        assert "We couldn't sign you in with those details." in page.inner_text("main")
        sign_in(page, identity, NEW_PASSWORD)
        see_heading(page, "You're signed in")

        # A mail tells the owner. The link works no second time, and its page leads to a new one.
        assert "new password" in site.mailbox.wait_for(2)["Subject"]
        page.goto(link)
        see_heading(page, "This link has already been used")
        page.get_by_role("link", name="Request a new link").click()
        assert page.url == f"{base}/reset"


def see_heading(page: Page, text: str) -> None:
    assert page.get_by_role("heading", level=1).inner_text() == text


def set_password(page: Page, password: str) -> None:
    for label in ("New password", "Confirm new password"):
        page.get_by_label(label, exact=True).fill(password)
    page.get_by_role("button", name="Set new password").click()


def sign_in(page: Page, identity: str, password: str) -> None:
    page.get_by_label(IDENTITY).fill(identity)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.requirement("R51")
def test_user_opens_the_link_from_webmail(make_site: Any, page: Page) -> None:
    """Webmail is another site: the click and its redirect are cross-site, so SameSite=Strict would lose the token."""
    with live(make_site, "https") as site:
        webmail = f'<a href="{mailed_link(site)}">your link</a>'
        page.route(
            "http://webmail.example/", lambda route: route.fulfill(body=webmail, content_type="text/html")
        )
        page.goto("http://webmail.example/")
        page.get_by_role("link").click()
        see_heading(page, "Choose a new password")
        assert page.url.startswith(f"{base_url(site)}/reset/~")


# --- A single-page app ---


def test_single_page_app_resets_a_password_in_json(make_site: Any) -> None:
    with (
        live(make_site, "https") as site,
        httpx.Client(base_url=base_url(site), verify=False) as client,  # noqa: S501  # a test certificate
    ):
        answer = client.post("/reset", json={"identity": "alice"})
        assert (answer.status_code, answer.json()) == (200, {"meta": {"code": 200}, "response": {}})
        link = link_in(site.mailbox.wait_for(1))
        short = client.post(link, json={"password": "short", "password_confirm": "short"})
        assert (short.status_code, list(short.json()["response"]["field_errors"])) == (400, ["password"])
        body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
        assert client.post(link, json=body).status_code == 200
        again = client.post(link, json=body)
        assert (again.status_code, again.json()["response"]["error_code"]) == (400, "link_used")
        for password, status in ((OLD_PASSWORD, 400), (NEW_PASSWORD, 200)):
            login = client.post("/login", json={"identity": "alice", "password": password})
            assert login.status_code == status


# --- An admin ---


@pytest.fixture
def admin(tmp_path: Path, mailbox: Mailbox) -> Iterator[Admin]:
    admin = Admin(f"sqlite:///{tmp_path}/admin.db", mailbox.port, is_cold=True)
    yield admin
    admin.stops()


@pytest.mark.requirement("R39")
def test_admin_sets_sparekey_up_and_a_user_recovers(admin: Admin, mailbox: Mailbox) -> None:
    # A database and an account.
    assert admin.types("db", "upgrade").returncode == 0
    identities = ("email:Carol@Example.com", "username: CaroL ", "us_phone_number:(415) 555-0123")
    created = admin.types("users", "create", *identities, "--password", OLD_PASSWORD, "--active")
    assert (created.returncode, created.stderr) == (0, "")

    # Web pages and a worker. The user asks by each identity.
    admin.serves()
    worker = admin.starts("manage.py", "worker")
    for count, identity in enumerate(("carol@example.com", "carol", "+14155550123"), start=1):
        assert httpx.post(f"{admin.base}/reset", json={"identity": identity}).status_code == 200
        assert mailbox.wait_for(count, 60)["To"] == "carol@example.com"

    # A new password, its notice, and a sign-in.
    body = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    assert httpx.post(link_in(mailbox.mails[-1]), json=body).status_code == 200
    assert "new password" in mailbox.wait_for(4)["Subject"]
    login = httpx.post(f"{admin.base}/login", json={"identity": "carol", "password": NEW_PASSWORD})
    assert login.status_code == 200

    # The worker ends when it is told to.
    log = admin.ends(worker)
    assert worker.returncode == 0
    assert "worker stopped" in log


@pytest.mark.requirement("R63")
def test_gunicorn_with_a_bad_configuration_stops_and_names_every_problem() -> None:
    environ = {**inherited(), "FLASK_RECOVERY_PUBLIC_URL": "http://id.example.com"}
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{free_port()}", "app:create_app()"]
    process = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30)
    assert process.returncode == 3
    assert "RECOVERY_PUBLIC_URL (FLASK_RECOVERY_PUBLIC_URL): must be https" in process.stderr
    assert "SECRET_KEY (not set)" in process.stderr
    assert "Traceback" not in process.stderr
