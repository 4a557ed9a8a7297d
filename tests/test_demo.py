"""`make demo`, from a copy of the tree in which nothing was done before."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.servers import NO_TLS, two_free_ports
from support.site import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a clone holds, without what was made by running it."""
    for name in ("app", "config", "doctor", "examples", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "manage.py", tmp_path)
    return tmp_path


class Demo:
    """The demo as a process, and what it has printed."""

    def __init__(self, tree: Path, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.printed = tree / "printed.txt"
        command = [sys.executable, "-m", "examples.demo", "--port", str(port)]
        with self.printed.open("w") as out:
            self.process = subprocess.Popen(
                command,
                cwd=tree,
                env={"PATH": os.environ["PATH"]},  # not measured: this tree is a copy
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait_for(self, text: str) -> str:
        for _ in range(300):
            printed = self.printed.read_text()
            if text in printed:
                return printed
            assert self.process.poll() is None, printed
            time.sleep(0.1)
        pytest.fail(self.printed.read_text())

    def stop(self) -> int:
        """Ctrl-C in a terminal reaches every process of the group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=30)


@pytest.fixture
def start(tree: Path) -> Iterator[Any]:
    running: list[Demo] = []

    def start_demo(port: int) -> Demo:
        running.append(Demo(tree, port))
        return running[-1]

    yield start_demo
    for demo in running:
        demo.stop()


def newest_mail(base: str, count: int) -> str:
    for _ in range(100):
        numbers = re.findall(r'href="/inbox/(\d+)"', httpx.get(f"{base}/inbox/", verify=NO_TLS).text)
        if len(numbers) >= count:
            return httpx.get(f"{base}/inbox/{numbers[0]}").text
        time.sleep(0.1)
    pytest.fail(f"{count} mails did not come")


def test_the_demo_runs_the_whole_story_and_stops(start: Any, tree: Path) -> None:
    demo = start(two_free_ports())
    printed = demo.wait_for("Ctrl-C stops everything")
    for account in ("alice@example.com", "+14155550124", "carol keeps forgetting"):
        assert account in printed
    for name in ("demo-secret-key", "demo-password-salt"):
        assert stat.S_IMODE((tree / "instance" / name).stat().st_mode) == 0o600

    old = {"identity": "alice", "password": "alice will forget this"}
    assert httpx.post(f"{demo.base}/login", json=old).status_code == 200
    assert httpx.post(f"{demo.base}/reset", json={"identity": "+14155550123"}).status_code == 200
    link = re.search(rf"{demo.base}/reset/[\w-]+", newest_mail(demo.base, 1))
    assert link is not None
    body = {"password": "alice will keep this", "password_confirm": "alice will keep this"}
    assert httpx.post(link[0], json=body).status_code == 200
    assert httpx.post(f"{demo.base}/login", json=old).status_code == 400
    assert "was changed" in newest_mail(demo.base, 2)

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
    kept = {"identity": "alice", "password": "alice will keep this"}
    assert httpx.post(f"{again.base}/login", json=kept).status_code == 200


def test_a_taken_port_gets_a_clear_message(start: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start(port)
        assert demo.process.wait(timeout=30) == 1
        assert f"port {port} cannot be used" in demo.printed.read_text()
        assert "make demo PORT=" in demo.printed.read_text()
