"""`make screenshots`: takes the pictures of README.md and docs/ from the running demo."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright
from support import dashboard

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
PORT = 5099
BASE = f"http://127.0.0.1:{PORT}"
PHONE = {"width": 390, "height": 620}


def main() -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    demo = subprocess.Popen([sys.executable, "-m", "examples.demo", "--port", str(PORT)], cwd=ROOT)
    try:
        wait_until_up()
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            show_the_pages(browser, "light", "carol")
            show_the_pages(browser, "dark", "bob")
            show_the_mails(browser)
            dashboard.draw(browser, PICTURES / "dashboard.png")
            browser.close()
    finally:
        demo.terminate()
        demo.wait(timeout=30)


def wait_until_up() -> None:
    for _ in range(300):
        with suppress(httpx.TransportError):
            httpx.get(f"{BASE}/healthz")
            return
        time.sleep(0.1)
    raise SystemExit("the demo did not start")


def show_the_pages(browser: Browser, scheme: str, identity: str) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme=scheme, device_scale_factor=2)  # type: ignore[arg-type,unused-ignore]
    page = context.new_page()

    def shoot(name: str) -> None:
        page.screenshot(path=PICTURES / f"{name}-{scheme}.png")

    page.goto(f"{BASE}/reset")
    page.get_by_label("Email address, username or phone number").fill(identity)
    shoot("1-forgot")
    page.get_by_role("button").click()
    shoot("2-check-mail")
    link = open_newest_mail(page)
    shoot("3-mail")
    page.goto(link)
    shoot("4-new-password")
    page.goto(f"http://localhost:{PORT + 1}/forgot")
    page.get_by_label("Email address, username or phone number").fill(identity)
    shoot("5-sample-spa")


def show_the_mails(browser: Browser) -> None:
    """Take a picture of `mail preview` with nothing but the required settings."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mails.html"
        environ = {
            **os.environ,
            "FLASK_SECRET_KEY": secrets.token_urlsafe(),
            "FLASK_SECURITY_PASSWORD_SALT": secrets.token_urlsafe(),
            "FLASK_RECOVERY_PUBLIC_URL": "https://id.example.com",
            "FLASK_MAIL_DEFAULT_SENDER": "no-reply@example.com",
        }
        command = [sys.executable, "manage.py", "mail", "preview", "--output", str(path)]
        subprocess.run(command, cwd=ROOT, env=environ, check=True)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.goto(path.as_uri())
        page.screenshot(path=PICTURES / "mail-gallery.png")


def open_newest_mail(page: Page) -> str:
    """Wait for the mail, show its HTML, and return its link."""
    page.wait_for_timeout(2000)
    page.goto(f"{BASE}/inbox/")
    page.locator(".mails a").first.click()
    link = re.search(rf"{BASE}/reset/[\w-]+", page.inner_text("pre"))
    assert link, "the newest mail has no link"
    page.goto(f"{page.url}/html")
    return link[0]


if __name__ == "__main__":
    main()
