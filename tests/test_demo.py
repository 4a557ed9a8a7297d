"""`make demo`, and its inbox."""

import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.demo import (
    Demo,
    tree as tree,  # a fixture
)
from support.servers import NO_TLS, two_free_ports
from support.site import ROOT, Site

from examples.demo import inbox


@pytest.fixture
def start(tree: Path) -> Iterator[Callable[[int], Demo]]:
    running: list[Demo] = []

    def start_demo(port: int) -> Demo:
        running.append(Demo(tree, port))
        return running[-1]

    yield start_demo
    for demo in running:
        demo.stop()


def newest_mail(base: str, count: int) -> str:
    """Wait until the inbox has so many mails, and return the newest."""
    for _ in range(200):
        numbers = re.findall(r'href="/inbox/(\d+)"', httpx.get(f"{base}/inbox/", verify=NO_TLS).text)
        if len(numbers) >= count:
            return httpx.get(f"{base}/inbox/{numbers[0]}", verify=NO_TLS).text
        time.sleep(0.05)
    pytest.fail(f"{count} mails did not come")


def test_demo_tells_the_story_and_keeps_its_accounts(start: Callable[[int], Demo], tree: Path) -> None:
    demo = start(two_free_ports())
    printed = demo.wait_for("Ctrl-C stops everything")
    for account in ("alice@example.com", "+14155550124", "carol keeps forgetting"):
        assert account in printed
    for name in ("demo-secret-key", "demo-password-salt"):
        assert stat.S_IMODE((tree / "instance" / name).stat().st_mode) == 0o600

    old = {"identity": "alice", "password": "alice will forget this"}
    new = {"identity": "alice", "password": "alice will keep this"}
    with httpx.Client(base_url=demo.base, verify=NO_TLS) as client:
        assert client.post("/login", json=old).status_code == 200
        client.cookies.clear()
        assert client.post("/reset", json={"identity": "+14155550123"}).status_code == 200
        link = re.search(rf"{demo.base}/reset/[\w-]+", newest_mail(demo.base, 1))
        assert link is not None
        assert client.post(link[0], json={"password": new["password"]}).status_code == 200
        assert client.post("/login", json=old).status_code == 400
        assert "new password" in newest_mail(demo.base, 2)

    spa = re.search(r"Sample SPA +(http://localhost:\d+)", printed)
    assert spa is not None
    assert "Sample app" in httpx.get(f"{spa[1]}/reset?token=x").text
    assert httpx.get(f"{spa[1]}/config.js").text.startswith(f'export const API = "{demo.base}"')

    assert demo.stop() == 0
    assert "Stopped." in demo.printed.read_text()
    assert "Traceback" not in demo.printed.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(demo.base)

    again = start(int(demo.base.rsplit(":", 1)[1]))
    again.wait_for("Ctrl-C stops everything")
    assert httpx.post(f"{again.base}/login", json=new).status_code == 200


def test_demo_names_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "examples.demo", "--port", str(port)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1
    assert f"port {port} cannot be used" in ended.stderr
    assert "make demo PORT=" in ended.stderr


def test_inbox_shows_mail_as_a_mail_program_would(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(RECOVERY_INBOX=True)
    site.app.register_blueprint(inbox.pages)
    site.app.instance_path = str(tmp_path)
    visitor = site.visitor()
    assert "No emails yet" in visitor.open("/inbox/").text
    site.ask()
    site.work()
    listing = visitor.open("/inbox/").text
    assert "Reset your Sparekey password" in listing
    number = listing.split('href="/inbox/')[2].split('"')[0]
    assert "We received a request" in visitor.open(f"/inbox/{number}").text
    html = visitor.open(f"/inbox/{number}/html")
    assert "Choose a new password</a>" in html.text
    assert "sandbox" in html.headers["Content-Security-Policy"]
    assert "allow-scripts" not in html.headers["Content-Security-Policy"]
    assert "frame-ancestors 'self'" in html.headers["Content-Security-Policy"]
    assert visitor.open("/inbox/123").status_code == 404
    assert site.mailbox.mails == []  # nothing left this machine


def test_inbox_does_not_exist_unless_switched_on(site: Site) -> None:
    assert site.visitor().open("/inbox/").status_code == 404
