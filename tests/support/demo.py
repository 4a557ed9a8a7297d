"""`make demo` as a process, from the source tree or from a copy in which nothing has run before."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .servers import listening, two_free_ports
from .site import ROOT

NOT_COPIED = shutil.ignore_patterns("node_modules", ".venv")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a clone contains, and of what Python has compiled of it."""
    for name in ("app", "config", "doctor", "examples", "templates"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=NOT_COPIED)
    for name in ("manage.py", "gunicorn.conf.py"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def command(port: int) -> list[str]:
    return [sys.executable, "-m", "examples.demo", "--port", str(port)]


class Demo:
    """The demo and its output."""

    def __init__(self, tree: Path, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"
        self.printed = tree / "printed.txt"
        environ = {"PATH": os.environ["PATH"]}  # without coverage, because the tree is a copy
        with self.printed.open("w") as output:
            self.process = subprocess.Popen(
                command(port), cwd=tree, env=environ, stdout=output, stderr=output, start_new_session=True
            )

    def wait_for(self, text: str) -> str:
        for _ in range(600):
            printed = self.printed.read_text()
            if text in printed:
                return printed
            assert self.process.poll() is None, printed
            time.sleep(0.05)
        pytest.fail(self.printed.read_text())

    def stop(self) -> int:
        """Press Ctrl-C, which reaches every process of the group."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=30)


@contextmanager
def demo_of_source_tree() -> Iterator[str]:
    """Run the demo, and yield its base URL."""
    port = two_free_ports()
    with listening(command(port), port, cwd=ROOT, stdout=subprocess.DEVNULL):
        yield f"http://127.0.0.1:{port}"
