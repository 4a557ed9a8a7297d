"""How the peers run: their environment, their databases, their processes; nothing of it is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from peer import Peer
from servers import free_port

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "peers"
KEPT = ROOT / "instance" / "bench"
GUNICORN = ("--workers", "1", "--threads", "8", "--log-level", "warning")  # as in the demo
START_SECONDS_MAX = 30
END_SECONDS_MAX = 8
KIB = 1024


def python_of_peers() -> Path:
    """The peers' environment, made when it is not there or when what is wanted has changed."""
    wanted, venv = APPS / "requirements.txt", KEPT / "venv"
    python, mark = venv / "bin" / "python", venv / "made-of"
    sum_ = hashlib.sha256(wanted.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() == sum_:
        return python
    print("Setting up the peers' environment ...", file=sys.stderr)
    shutil.rmtree(venv, ignore_errors=True)
    hashed = ["--require-hashes", "-r", str(wanted)]
    if uv := shutil.which("uv"):
        _do(uv, "venv", "--quiet", "--python", sys.executable, str(venv))
        _do(uv, "pip", "install", "--quiet", "--python", str(python), *hashed)
    else:
        _do(sys.executable, "-m", "venv", str(venv))
        _do(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *hashed)
    mark.write_text(sum_)
    return python


def _do(*words: str, **options: object) -> None:
    subprocess.run(words, check=True, **options)  # type: ignore[call-overload]  # noqa: S603  # our own words


def versions_of_peers(python: Path) -> dict[str, str]:
    """By the names of the packages."""
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    said = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout  # noqa: S603
    return dict(line.split(" ", 1) for line in said.splitlines())


@dataclass(frozen=True)
class Setting:
    """Where a peer is to run."""

    peer: Peer
    python: Path
    database: str  # as a URI
    port: int = 0
    mail_port: int = 1

    def environ(self) -> dict[str, str]:
        """Nothing of whoever runs the bench but how to find programs."""
        inherited = {name: text for name, text in os.environ.items() if name in ("PATH", "LANG", "TMPDIR")}
        return {
            **inherited,
            "PYTHONPATH": str(APPS),
            "FLASK_SECRET_KEY": SECRET,
            "FLASK_SECURITY_PASSWORD_SALT": SALT,
            "FLASK_SQLALCHEMY_DATABASE_URI": self.database,
            "FLASK_MAIL_SERVER": "127.0.0.1",
            "FLASK_MAIL_PORT": str(self.mail_port),
            "FLASK_MAIL_DEFAULT_SENDER": "no-reply@example.com",
            "FLASK_RECOVERY_PUBLIC_URL": f"http://127.0.0.1:{self.port or 1}",
            **self.peer.environ,
        }

    def folder(self) -> Path:
        """Where gunicorn finds the gunicorn.conf.py that is meant."""
        return ROOT if self.peer.sparekey else APPS


SECRET, SALT = secrets.token_urlsafe(32), secrets.token_urlsafe(32)


def fill(peer: Peer, python: Path, database: str, accounts: int) -> None:
    """A database with so many accounts, to copy from."""
    setting = Setting(peer, python, database)
    code = f"import {peer.module}; {peer.module}.fill({accounts})"
    _do(
        str(python),
        "-c",
        code,
        cwd=setting.folder(),
        env=setting.environ(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@dataclass(frozen=True)
class Running:
    """A peer that answers."""

    peer: Peer
    port: int
    server: subprocess.Popen[bytes]
    start_seconds: float

    def memory(self) -> float:
        """MiB of the process that answers: its share (PSS) where that is known, else all it holds (RSS)."""
        [worker] = _children(self.server.pid)
        with suppress(OSError):
            lines = Path(f"/proc/{worker}/smaps_rollup").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / KIB
        said = subprocess.run(  # noqa: S603
            ["ps", "-o", "rss=", "-p", str(worker)],  # noqa: S607
            check=True,
            capture_output=True,
            text=True,
        )
        return int(said.stdout) / KIB


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    said = subprocess.run(["pgrep", "-P", str(pid)], check=True, capture_output=True, text=True)  # noqa: S603, S607
    return [int(child) for child in said.stdout.split()]


@contextmanager
def running(peer: Peer, python: Path, database: str, mail_port: int, log: Path) -> Iterator[Running]:
    """The peer behind gunicorn as the demo runs Sparekey, and Sparekey's worker beside it."""
    setting = Setting(peer, python, database, free_port(), mail_port)
    bind = ("--bind", f"127.0.0.1:{setting.port}")
    commands = [("-m", "gunicorn", *bind, *GUNICORN, f"{peer.module}:create_app()")]
    commands += [("manage.py", "worker")] if peer.sparekey else []
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for words in commands:
            start = time.perf_counter()
            processes.append(_start(setting, words, log))
            if len(processes) == 1:  # alone, since the time counts
                took = _answers_after(processes[0], setting, start, log)
        if peer.sparekey:
            _wait_for_worker(setting)
        yield Running(peer, setting.port, processes[0], took)
    finally:
        _end(processes)


def _start(setting: Setting, words: tuple[str, ...], log: Path) -> subprocess.Popen[bytes]:
    """In a session of its own: Ctrl-C is ours, and all of it can be ended together."""
    with open(log, "ab") as said:
        return subprocess.Popen(  # noqa: S603  # our own words
            [str(setting.python), *words],
            cwd=setting.folder(),
            env=setting.environ(),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _answers_after(process: subprocess.Popen[bytes], setting: Setting, start: float, log: Path) -> float:
    """Seconds until it answers a request."""
    while time.perf_counter() - start < START_SECONDS_MAX and process.poll() is None:
        with (
            suppress(OSError, HTTPException),
            closing(HTTPConnection("127.0.0.1", setting.port, timeout=START_SECONDS_MAX)) as line,
        ):
            line.request("GET", setting.peer.ready())
            if line.getresponse().status < 500:
                return time.perf_counter() - start
        time.sleep(0.01)
    raise RuntimeError(f"{setting.peer.name} did not start:\n{log.read_text()[-2000:]}")


def _wait_for_worker(setting: Setting) -> None:
    """Until Sparekey sees it: what is measured before would be without."""
    for _ in range(START_SECONDS_MAX * 20):
        with closing(HTTPConnection("127.0.0.1", setting.port, timeout=START_SECONDS_MAX)) as line:
            line.request("GET", "/readyz")
            if json.loads(line.getresponse().read())["worker"]:
                return
        time.sleep(0.05)
    raise RuntimeError("Sparekey's worker did not start")


def _end(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask once, wait a while, and end what is left, children included."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + END_SECONDS_MAX
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        with suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of the dead
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
