"""`make demo`, and its inbox."""

import re
import socket
import stat
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.demo import (
    Demo,
    tree as tree,  # a fixture
)
from support.servers import NO_TLS, two_free_ports
from support.site import ROOT, Site, wait_for

from examples.demo import inbox

FORGETFUL = {"identity": "alice", "password": "alice will forget this"}
MINDFUL = {"identity": "alice", "password": "alice will keep this"}


def newest_mail(client: httpx.Client, count: int) -> str:
    """Wait until the inbox has so many mails, and return the newest."""

    def numbers() -> list[str]:
        return re.findall(r'href="/inbox/(\d+)"', client.get("/inbox/").text)

    wait_for(lambda: len(numbers()) >= count)
    return client.get(f"/inbox/{numbers()[0]}").text


def test_demo_tells_the_story_and_keeps_its_accounts(tree: Path) -> None:
    with ExitStack() as at_end:
        demo = Demo(tree, two_free_ports())
        at_end.callback(demo.stop)
        printed = demo.wait_for("Ctrl-C stops everything")
        for account in ("alice@example.com", "+14155550124", "carol keeps forgetting"):
            assert account in printed
        for name in ("demo-secret-key", "demo-password-salt"):
            assert stat.S_IMODE((tree / "instance" / name).stat().st_mode) == 0o600
        with httpx.Client(base_url=demo.base, verify=NO_TLS) as client:
            assert client.post("/login", json=FORGETFUL).status_code == 200
            client.cookies.clear()
            assert client.post("/reset", json={"identity": "+14155550123"}).status_code == 200
            [link] = set(re.findall(rf"{demo.base}/reset/[\w-]+", newest_mail(client, 1)))
            assert client.post(link, json={"password": MINDFUL["password"]}).status_code == 200
            assert client.post("/login", json=FORGETFUL).status_code == 400
            assert "new password" in newest_mail(client, 2)
            [spa] = re.findall(r"Sample SPA +(http://localhost:\d+)", printed)
            assert "Sample app" in client.get(f"{spa}/reset?token=x").text
            assert client.get(f"{spa}/config.js").text.startswith(f'export const API = "{demo.base}"')
            assert demo.stop() == 0
            assert "Stopped." in demo.printed.read_text()
            assert "Traceback" not in demo.printed.read_text()
            with pytest.raises(httpx.ConnectError):
                client.get("/")
            again = Demo(tree, int(demo.base.rsplit(":", 1)[1]))
            at_end.callback(again.stop)
            again.wait_for("Ctrl-C stops everything")
            assert client.post("/login", json=MINDFUL).status_code == 200


def test_demo_names_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "examples.demo", "--port", port]
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
    assert make_site().visitor().open("/inbox/").status_code == 404  # unless it is switched on
    assert site.mailbox.mails == []  # nothing left this machine
