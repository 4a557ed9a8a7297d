"""An operator's processes: commands of manage.py, gunicorn and the worker."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import Self, TextIO

import httpx
import pytest

from . import warm
from .servers import NO_TLS, free_port
from .site import ROOT, SECRETS


def inherited() -> dict[str, str]:
    """Return the environment of a process that runs and is measured like this one, without settings."""
    return {name: text for name, text in os.environ.items() if name.startswith(("PATH", "COVERAGE"))}


def uncounted() -> dict[str, str]:
    """Return it without coverage, because a killed process reports none, and coverage slows the start."""
    return {name: text for name, text in inherited().items() if not name.startswith("COVERAGE")}


def deployment(database_uri: str, mail_port: int, public_url: str, **environ: str) -> dict[str, str]:
    """Return the settings of a deployment on this machine, as environment variables."""
    settings = {
        "RECOVERY_PUBLIC_URL": public_url, "SQLALCHEMY_DATABASE_URI": database_uri, "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": str(mail_port), "RATELIMIT_ENABLED": "false", "RECOVERY_MAIL_COOLDOWN": "0 seconds",
    }  # fmt: skip
    return {**SECRETS, **{f"FLASK_{name}": value for name, value in settings.items()}, **environ}


Process = subprocess.Popen[str] | warm.Running


class Admin:
    """Runs processes. Cold ones start a new Python; others are forked, see warm.py."""

    def __init__(self, database_uri: str, mail_port: int, is_cold: bool = False, **environ: str) -> None:
        self.is_cold = is_cold
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.running: dict[Process, TextIO] = {}
        self.environ = {**inherited(), **deployment(database_uri, mail_port, self.base, **environ)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stops()

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of manage.py that ends by itself."""
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            process = self._starts(("manage.py", *words), stdout, stderr)
            try:
                process.wait(timeout=60)
            finally:
                process.kill()
            for file in (stdout, stderr):
                file.seek(0)
            return subprocess.CompletedProcess(words, process.wait(), stdout.read(), stderr.read())

    def starts(self, *words: str) -> Process:
        """Start a process that stays."""
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed by `ends`; a full pipe would stop the process
        process = self._starts(words, None, log)
        self.running[process] = log
        return process

    def _starts(self, words: tuple[str, ...], stdout: TextIO | None, stderr: TextIO) -> Process:
        if not self.is_cold and warm.can_start(words, self.environ):
            return warm.start(words, self.environ, stdout, stderr)
        command = [sys.executable, *words]
        return subprocess.Popen(command, cwd=ROOT, env=self.environ, text=True, stdout=stdout, stderr=stderr)

    def ends(self, process: Process) -> str:
        """Ask a process to end, and return its stderr."""
        log = self.running.pop(process)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        log.seek(0)
        with log:
            return log.read()

    def serves(self, workers: int = 1, threads: int | None = 4, *options: str) -> None:
        """Start gunicorn. Without `threads`, with as many as gunicorn.conf.py has."""
        size = ["--workers", str(workers), *(["--threads", str(threads)] if threads else []), *options]
        self.starts("-m", "gunicorn", "--bind", f"127.0.0.1:{self.port}", *size, "app:create_app()")
        for _ in range(200):
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.base}/healthz", verify=NO_TLS).status_code == 200:
                    return
            time.sleep(0.05)
        pytest.fail("gunicorn did not answer")

    def stops(self) -> str:
        """End all processes, and return their stderr."""
        return "".join(self.ends(process) for process in list(self.running))
