"""Runs an application behind gunicorn, with Sparekey's worker beside it, and leaves no process behind."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import httpx
from peer import Peer
from support import servers

APPS = ROOT / "bench" / "peers"
KEPT = ROOT / "instance" / "bench"  # results, the log of all processes, the peers' environment
LOG = KEPT / "log"
GUNICORN = ("--workers", "1", "--threads", "8", "--log-level", "warning")
START_SECONDS_MAX = 30
END_SECONDS_MAX = 8
SECRETS = {name: secrets.token_urlsafe(32) for name in ("FLASK_SECRET_KEY", "FLASK_SECURITY_PASSWORD_SALT")}
STARTED = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", file=sys.stderr, flush=True)


def prepare() -> None:
    """Do what every bench does first: clean up on SIGTERM, too, and have a folder."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    KEPT.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")


def wait_for(is_so: Callable[[], bool], seconds: float = START_SECONDS_MAX) -> float:
    """Return how long it took, or `seconds`."""
    start = time.perf_counter()
    while (waited := time.perf_counter() - start) < seconds and not is_so():
        time.sleep(0.01)
    return min(waited, seconds)


def python_of_peers() -> str:
    """Return the interpreter of the peers' environment, which is made again when its requirements change."""
    wanted, venv = APPS / "requirements.txt", KEPT / "venv"
    python, mark = str(venv / "bin" / "python"), venv / "made-of"
    checksum = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == checksum:
        return python
    say("setting up the peers' environment")
    shutil.rmtree(venv, ignore_errors=True)
    run(sys.executable, "-m", "venv", str(venv))
    run(python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(wanted))
    mark.write_text(checksum)
    return python


def run(*words: str, **options: Any) -> str:
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, **options)
    return str(done.stdout)


def environ_of(peer: Peer, database: str, port: int = 1, mail_port: int = 1) -> dict[str, str]:
    """Return a peer's settings, and nothing of this process but how to find programs."""
    inherited = {name: text for name, text in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
    return {
        **inherited,
        **SECRETS,
        # Sparekey imports its own `app`; PYTHONPATH may name more libraries.
        "PYTHONPATH": os.pathsep.join(filter(None, (str(APPS), os.environ.get("PYTHONPATH")))),
        "FLASK_SQLALCHEMY_DATABASE_URI": database,
        "FLASK_MAIL_SERVER": "127.0.0.1",
        "FLASK_MAIL_PORT": str(mail_port),
        "FLASK_MAIL_DEFAULT_SENDER": "no-reply@example.com",
        "FLASK_RECOVERY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        **peer.environ,
    }


def folder_of(peer: Peer) -> Path:
    """Return the working directory: gunicorn reads the gunicorn.conf.py there."""
    return ROOT if peer.is_sparekey else APPS


def fill(peer: Peer, database: str, accounts: int, python: str = sys.executable) -> str:
    """Make the tables and so many accounts. Returns the database."""
    code = f"import {peer.module}; {peer.module}.fill({accounts})"
    with LOG.open("ab") as log:
        run(python, "-c", code, cwd=folder_of(peer), env=environ_of(peer, database), stderr=log)
    return database


@dataclass
class Site:
    """A running application."""

    peer: Peer
    port: int
    python: str
    environ: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    start_seconds: float = 0.0

    def client(self) -> httpx.Client:
        """Return a browser or a program: it keeps cookies and its connection."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=60, verify=servers.NO_TLS)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that all of it can be ended together."""
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                [self.python, *words],
                cwd=folder_of(self.peer),
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def serve(self) -> None:
        bind = ("--bind", f"127.0.0.1:{self.port}")
        process = self.start("-m", "gunicorn", *bind, *GUNICORN, f"{self.peer.module}:create_app()")

        def answers() -> bool:
            with suppress(httpx.TransportError), self.client() as client:
                return client.get("/healthz").status_code < 500  # 404 is an answer, too
            return process.poll() is not None

        self.start_seconds = wait_for(answers)
        is_up = process.poll() is None and self.start_seconds < START_SECONDS_MAX
        assert is_up, f"{self.peer.name} did not start:\n{LOG.read_text()[-2000:]}"

    def work(self, *options: str) -> None:
        """Start a worker of Sparekey's, and wait until the web process sees one."""
        self.start("manage.py", "worker", *options)
        with self.client() as client:
            waited = wait_for(lambda: client.get("/readyz").json()["worker"])
        assert waited < START_SECONDS_MAX, f"the worker did not start:\n{LOG.read_text()[-2000:]}"

    def memory(self) -> float:
        """Return MiB of the process that answers, by its share (PSS). Only Linux tells."""
        gunicorn = self.processes[0].pid
        worker = Path(f"/proc/{gunicorn}/task/{gunicorn}/children").read_text().strip()
        lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def end(self) -> None:
        """Ask all processes to end, wait a while, and kill the rest, children included."""
        for process in self.processes:
            process.terminate()
        wait_for(lambda: all(process.poll() is not None for process in self.processes), END_SECONDS_MAX)
        for process in self.processes:
            with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of the dead
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def running(
    peer: Peer,
    database: str,
    mail_port: int,
    python: str = sys.executable,
    has_worker: bool = True,
    **environ: str,
) -> Iterator[Site]:
    port = servers.free_port()
    site = Site(peer, port, python, {**environ_of(peer, database, port, mail_port), **environ})
    try:
        site.serve()
        if peer.is_sparekey and has_worker:
            site.work()
        yield site
    finally:
        site.end()
