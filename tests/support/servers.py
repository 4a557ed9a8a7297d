"""Real servers for one run of the tests, on ports of their own."""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import psycopg
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
START_SECONDS_MAX = 30
# For httpx without TLS. By default it loads the machine's certificates for each client, in 25 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def two_free_ports() -> int:
    """Return the first of two neighboring ports, as the demo needs them."""
    while True:
        port = free_port()
        with socket.socket() as probe, suppress(OSError, OverflowError):
            probe.bind(("127.0.0.1", port + 1))
            return port


def wait_until(is_up: Callable[[], object], process: subprocess.Popen[bytes], name: str) -> None:
    for _ in range(START_SECONDS_MAX * 20):
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended at once")
        try:
            if is_up():
                return
        except (OSError, psycopg.OperationalError):
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{name} did not start")


@contextmanager
def listening(command: Sequence[str], port: int, **options: Any) -> Iterator[None]:
    """Run a program that listens on a port, from the moment at which it does."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **options)
    try:
        address = ("127.0.0.1", port)
        wait_until(lambda: socket.create_connection(address).close() is None, process, command[0])
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)


class PostgreSQL:
    """A server in a folder. It can be stopped and started again."""

    def __init__(self, programs: Path, folder: Path, environ: dict[str, str]) -> None:
        self.programs, self.folder, self.port = programs, folder, free_port()
        self.environ = {**os.environ, **environ}
        self.process: subprocess.Popen[bytes] | None = None
        self.made = 0
        self.run("initdb", "-D", str(folder / "data"), "-U", "tests", "-A", "trust", "-E", "UTF8", "-N")

    # PostgreSQL refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    # Only a power failure would need durability, and it costs time.
    settings: tuple[str, ...] = ("fsync=off",)

    def run(self, program: str, *words: str) -> None:
        command = [str(self.programs / program), *words]
        subprocess.run(command, check=True, capture_output=True, user=self.user, cwd=self.folder)

    def start(self) -> None:
        settings = (*self.settings, "listen_addresses=127.0.0.1", "max_connections=300")
        options = [word for setting in settings for word in ("-c", setting)]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        command += ["-k", str(self.folder), *options]
        silent: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, cwd=self.folder, env=self.environ, user=self.user, **silent)
        wait_until(lambda: self.execute("SELECT 1") is None, self.process, "PostgreSQL")

    def stop(self) -> None:
        if self.process is not None:
            self.run("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", "immediate")
            self.process.wait(timeout=30)
            self.process = None

    def kill(self) -> None:
        """End every process with SIGKILL: a crash."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for number in (self.process.pid, *map(int, children)):  # the first would start the others again
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait(timeout=30)
        self.process = None
        time.sleep(0.2)  # until the children have left the shared memory

    def crash(self) -> None:
        """End every process with SIGKILL, and start again."""
        self.kill()
        self.start()

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def dsn(self, database: str) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def create(self, template: str = "template1") -> str:
        """A new database, as a URI."""
        self.made += 1
        self.execute(f"CREATE DATABASE d{self.made} TEMPLATE {template}")
        return self.dsn(f"d{self.made}")


def find_postgresql() -> Path | None:
    """Return the folder of the server programs, which are not in PATH on Debian."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    programs = [*debian, *([Path(found)] if (found := shutil.which("initdb")) else [])]
    return programs[-1].parent if programs else None


@contextmanager
def postgresql(
    programs: Path, environ: dict[str, str] | None = None, kind: type[PostgreSQL] = PostgreSQL
) -> Iterator[PostgreSQL]:
    with tempfile.TemporaryDirectory(prefix="sparekey-pg-") as name:
        folder = Path(name)
        if PostgreSQL.user:
            shutil.chown(folder, PostgreSQL.user)
        server = kind(programs, folder, environ or {})
        try:
            server.start()
            yield server
        finally:
            server.stop()


class Redis:
    """A server without files."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder, self.port = program, folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([self.program, *options], stdout=subprocess.DEVNULL)
        wait_until(lambda: b"PONG" in self.ask(b"PING\r\n"), self.process, "Redis")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=30)

    def ask(self, command: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(command)
            return connection.recv(1_000_000)

    def everything(self) -> bytes:
        """The names of all keys."""
        return self.ask(b"KEYS *\r\n")


def skip_or_fail(reason: str) -> NoReturn:
    """Skip a test that this machine cannot run, but fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"needed in CI: {reason}")
    pytest.skip(reason)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    missing = "Redis is not installed (Debian: apt-get install redis-server)"
    server = Redis(shutil.which("redis-server") or skip_or_fail(missing), tmp_path)
    server.start()
    yield server
    server.stop()
