"""`make screenshots`: takes the pictures of README.md and docs/ from the running demo."""

import os
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from looks.stage import chromium
from playwright.sync_api import Browser, Page
from support import dashboard
from support.demo import demo_of_source_tree
from support.site import ROOT

PICTURES = ROOT / "docs" / "pictures"
PHONE = {"width": 390, "height": 760}


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    with demo_of_source_tree() as base, chromium() as browser:
        show_the_pages(browser, base, "light", "carol")
        show_the_pages(browser, base, "dark", "bob")
        show_the_mails(browser)
        dashboard.draw(browser, PICTURES / "dashboard.png")


def show_the_pages(browser: Browser, base: str, scheme: str, identity: str) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, device_scale_factor=2)  # type: ignore[arg-type,unused-ignore]
    page = context.new_page()

    def shoot(name: str) -> None:
        page.screenshot(path=PICTURES / f"{name}-{scheme}.png")

    page.goto(f"{base}/reset")
    page.get_by_label("Email, username, or phone number").fill(identity)
    shoot("1-forgot")
    page.get_by_role("button").click()
    shoot("2-check-mail")
    link = open_newest_mail(page, base)
    shoot("3-mail")
    page.goto(link)
    shoot("4-new-password")
    page.goto(f"http://localhost:{urlsplit(base).port + 1}/forgot")
    page.get_by_label("Email, username, or phone number").fill(identity)
    shoot("5-sample-spa")


def show_the_mails(browser: Browser) -> None:
    """Take a picture of `mail preview` with nothing but the required settings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mails.html"
        settings = {
            "RECOVERY_PUBLIC_URL": "https://id.example.com",
            "MAIL_DEFAULT_SENDER": "no-reply@example.com",
        }
        settings |= {name: secrets.token_urlsafe() for name in ("SECRET_KEY", "SECURITY_PASSWORD_SALT")}
        environ = {**os.environ, **{f"FLASK_{name}": value for name, value in settings.items()}}
        command = [sys.executable, "manage.py", "mail", "preview", "--output", str(path)]
        subprocess.run(command, cwd=ROOT, env=environ, check=True)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(path.as_uri())
        page.screenshot(path=PICTURES / "mail-gallery.png")


def open_newest_mail(page: Page, base: str) -> str:
    """Wait for the mail, show its HTML, and return its link."""
    page.wait_for_timeout(2000)
    page.goto(f"{base}/inbox/")
    page.locator(".mails a").first.click()
    link = re.search(rf"{base}/reset/[\w-]+", page.inner_text("pre"))
    assert link, "the newest mail has no link"
    page.goto(f"{page.url}/html")
    return link[0]


if __name__ == "__main__":
    main()
