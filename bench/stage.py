"""Runs an application behind gunicorn, with Sparekey's worker beside it, and leaves no process behind."""

import os
import secrets
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

import click
import httpx
from peer import Peer
from support import servers

APPS = ROOT / "bench" / "peers"
KEPT = ROOT / "instance" / "bench"  # results, the log of all processes, the peers' environment
LOG = KEPT / "log"
PEERS_PYTHON = KEPT / "venv" / "bin" / "python"  # `make bench` makes it
GUNICORN = "-m gunicorn {app} -b 127.0.0.1:{port} --threads 8 --log-level warning --no-control-socket"
WAIT_SECONDS = 30.0
END_SECONDS_MAX = 8
SECRETS = {name: secrets.token_urlsafe(32) for name in ("FLASK_SECRET_KEY", "FLASK_SECURITY_PASSWORD_SALT")}
STARTED = time.monotonic()
folder = click.Path(path_type=Path)
results_option = click.option("--results", type=folder, default=KEPT, help="The folder of the results.")


def say(text: str) -> None:
    print(f"{time.monotonic() - STARTED:5.0f} s  {text}", file=sys.stderr, flush=True)


def prepare() -> None:
    """Do what every bench does first: clean up on SIGTERM, too, and have a folder."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    KEPT.mkdir(parents=True, exist_ok=True)
    LOG.write_text("")


def wait_for(is_so: Callable[[], bool], seconds: float = WAIT_SECONDS) -> float:
    """Return how long it took, or `seconds`."""
    start = time.perf_counter()
    while (waited := time.perf_counter() - start) < seconds and not is_so():
        time.sleep(0.01)
    return min(waited, seconds)


def run(*words: str, **options: Any) -> str:
    with LOG.open("ab") as log:
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=log, text=True, **options)
    return str(done.stdout)


def python_of(peer: Peer) -> str:
    """Return the interpreter. For stock Flask-Security alone, Sparekey's will do."""
    return str(PEERS_PYTHON) if PEERS_PYTHON.exists() and not peer.is_sparekey else sys.executable


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


def manage(environ: dict[str, str], *words: str) -> None:
    """Run a command of Sparekey's."""
    run(sys.executable, "manage.py", *words, cwd=ROOT, env=environ)


def folder_of(peer: Peer) -> Path:
    """Return the working directory: Sparekey's gunicorn.conf.py is for Sparekey alone."""
    return ROOT if peer.is_sparekey else APPS


def fill(peer: Peer, database: str, accounts: int) -> str:
    """Make the tables and so many accounts. Returns the database."""
    code = f"import {peer.module}; {peer.module}.fill({accounts})"
    run(python_of(peer), "-c", code, cwd=folder_of(peer), env=environ_of(peer, database))
    return database


@dataclass
class Site:
    """A running application."""

    peer: Peer
    port: int
    environ: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def client(self, seconds: float = 60) -> httpx.Client:
        """Return a browser or a program: it keeps cookies and its connection."""
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=seconds, verify=servers.NO_TLS)

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own, so that all of it can be ended together."""
        with LOG.open("ab") as log:
            process = subprocess.Popen(
                [python_of(self.peer), *words],
                cwd=folder_of(self.peer),
                env=self.environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def serve(self, server: str) -> None:
        """Start a server by its words, and wait until it answers."""
        process = self.start(*server.format(port=self.port, app=f"{self.peer.module}:create_app()").split())
        waited = wait_for(lambda: process.poll() is not None or self.answers())
        is_up = process.poll() is None and waited < WAIT_SECONDS
        assert is_up, f"{self.peer.name} did not start:\n{LOG.read_text()[-2000:]}"

    def answers(self) -> bool:
        with suppress(httpx.TransportError), self.client() as client:
            return client.get("/healthz").status_code < 500  # 404 is an answer, too
        return False

    def work(self, *options: str) -> None:
        """Start a worker of Sparekey's, and wait until the web process sees one."""
        self.start("manage.py", "worker", *options)
        with self.client() as client:
            waited = wait_for(lambda: client.get("/readyz").json()["worker"])
        assert waited < WAIT_SECONDS, f"the worker did not start:\n{LOG.read_text()[-2000:]}"

    def memory(self) -> float:
        """Return MiB of the process that answers, by its share (PSS). Only Linux tells."""
        server = self.processes[0].pid
        child = Path(f"/proc/{server}/task/{server}/children").read_text().strip()
        rollup = Path(f"/proc/{child or server}/smaps_rollup").read_text()
        return int(rollup.partition("Pss:")[2].split()[0]) / 1024

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
    has_worker: bool = True,
    server: str = GUNICORN,
    **environ: str,
) -> Iterator[Site]:
    port = servers.free_port()
    site = Site(peer, port, {**environ_of(peer, database, port, mail_port), **environ})
    try:
        site.serve(server)
        if peer.is_sparekey and has_worker:
            site.work()
        yield site
    finally:
        site.end()
