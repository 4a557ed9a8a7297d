"""How long starting takes, and how much memory is in use then: `bench/start.py`.

Commands are started beside the bare import of the libraries they stand on, by turns, so that whatever else
the machine does meets both alike. A server is ready when it answers, a worker when it has signed that it is
there. Memory is that of the process that works: resident (RSS), and with what it shares split among those who
share it (PSS). A hash is a sign-in with a wrong password; its peak is looked for every millisecond.

Libraries take more where they find others that only the tests need: `--python` names an interpreter that has
what stands in requirements.txt, and nothing else.
"""

from __future__ import annotations

import argparse
import json
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import sink
from conftest import ROOT, Admin, Process, fill

BARE = ("-c", "import flask, flask_security")
COMMANDS = ("--help", "config show", "outbox list", "users show alice")
THREADS = 8  # as in the demo
SIGN_INS = 16  # for each who signs in, so that every thread has hashed
PLACES = 2  # hashes at once, as on a machine of two cores
CROWDS = {1: "1 who signs in", 2: "2 who sign in at once", 4: "4 of whom 2 hash and 2 wait"}
PATIENCE_SECONDS = 60

# What is promised of a machine that has nothing else to do.
PROMISED = {
    "manage.py --help, CPU": "1.3×",
    "manage.py --help, wall": "1.3×",
    "web ready": "1.5 s",
    "web, before any hash, RSS": "90 MiB",
    "worker, before any mail, RSS": "90 MiB",
    "web, more for 1 who signs in, RSS": "19 MiB",
    "web, more for 2 who sign in at once, RSS": "38 MiB",
}


@dataclass(frozen=True)
class Row:
    """One thing that was measured, as often as there are values."""

    what: str
    values: list[float]
    unit: str

    def __str__(self) -> str:
        low, middle, high = min(self.values), statistics.median(self.values), max(self.values)
        spread = f"{low:.2f} to {high:.2f}" if len(self.values) > 1 else "once"
        return f"| {self.what} | {middle:.2f}{self.unit} | {spread} | {PROMISED.get(self.what, '-')} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="How long does starting take, and how much memory?")
    parser.add_argument("--runs", type=int, default=10, help="of each command, by turns with the bare import")
    parser.add_argument("--starts", type=int, default=3, help="of the server and of the worker")
    parser.add_argument("--python", default=sys.executable, help="of an environment without the tests' tools")
    options = parser.parse_args()
    sys.executable = options.python  # which starts whatever is measured
    print("\n## Start and memory\n\nOf processes that import everything (`bench/start.py`).\n")
    print("| what | median | min to max | at most |\n| --- | --- | --- | --- |")
    for row in rows(options.runs, options.starts):
        print(row, flush=True)
    print("\n×: as a multiple of", " ".join(BARE))
    if not has_memory():
        print("How much memory is in use is only told on Linux.")


def rows(runs: int = 10, starts: int = 3) -> Iterator[Row]:
    """Everything, row by row, as it is found."""
    with tempfile.TemporaryDirectory() as folder, sink.running() as box:
        places = {"FLASK_RECOVERY_HASHES_AT_ONCE": str(PLACES)}
        with redirect_stdout(sys.stderr):  # the migrations talk, and the table is to be pasted
            uri = fill(f"sqlite:///{folder}/start.db")
        admin = Admin(uri, box.port, is_cold=True, **places)
        for words in COMMANDS:
            yield from of_command(admin, words, runs)
        yield from of_web(admin, starts)
        yield from of_worker(admin, box, starts)


# --- Commands ---


def of_command(admin: Admin, words: str, runs: int) -> Iterator[Row]:
    ours, bare = ("manage.py", *words.split()), BARE
    for command in (ours, bare):
        spent(admin, command)  # compiles what is not compiled yet, and reads the files
    pairs = [(spent(admin, ours), spent(admin, bare)) for _ in range(runs)]
    for number, name in enumerate(("CPU", "wall")):
        times = [one[number] / other[number] for one, other in pairs]
        yield Row(f"manage.py {words}, {name}", times, "×")
    yield Row(f"manage.py {words}, seconds of wall", [one[1] for one, _ in pairs], " s")


def spent(admin: Admin, command: tuple[str, ...]) -> tuple[float, float]:
    """Seconds of CPU and of wall."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(  # noqa: S603  # ours
        [sys.executable, *command], cwd=ROOT, env=admin.environ, check=True, stdout=subprocess.DEVNULL
    )
    took, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took


# --- The server ---


def of_web(admin: Admin, starts: int) -> Iterator[Row]:
    ready: list[float] = []
    found: dict[str, list[float]] = {}
    for _ in range(starts):
        with server(admin, ready) as process:
            for what, value in hashing(admin, process):
                found.setdefault(what, []).append(value)
    yield Row("web ready", ready, " s")
    yield from (Row(f"web, {what}", values, " MiB") for what, values in found.items())


@contextmanager
def server(admin: Admin, ready: list[float]) -> Iterator[Process]:
    size = ("--workers", "1", "--threads", str(THREADS), "--log-level", "warning")
    start = time.perf_counter()
    process = admin.starts("-m", "gunicorn", "--bind", f"127.0.0.1:{admin.port}", *size, "app:create_app()")
    try:
        wait_until(lambda: answers(admin))
        ready.append(time.perf_counter() - start)
        yield process
    finally:
        admin.stops()


def answers(admin: Admin) -> bool:
    """gunicorn listens before it has loaded the app: who comes early waits for the answer."""
    with suppress(OSError), closing(HTTPConnection("127.0.0.1", admin.port, timeout=60)) as client:
        client.request("GET", "/healthz")
        return client.getresponse().status == 200
    return False


def hashing(admin: Admin, process: Process) -> Iterator[tuple[str, float]]:
    """What is in use before any hash, and what is added by so many at once."""
    if not has_memory():
        return
    [number] = children(process.pid)  # who started first only looks after it
    before = rss(number)
    yield "before any hash, RSS", before
    yield "before any hash, PSS", pss(number)
    yield "beside it gunicorn's own, PSS", pss(process.pid)
    sign_in(admin, 1)  # the first loads what every request needs
    for at_once, who in CROWDS.items():
        rest = rss(number)
        yield f"more for {who}, RSS", peak_of(number, partial(crowd, admin, at_once)) - rest
    yield "after all these, RSS", rss(number)


def crowd(admin: Admin, at_once: int) -> None:
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(sign_in, admin, SIGN_INS) for _ in range(at_once)]:
            done.result()


def sign_in(admin: Admin, times: int) -> None:
    """With a password that is wrong."""
    body = json.dumps({"identity": "alice@example.com", "password": "not the password of alice"})
    for _ in range(times):
        with closing(HTTPConnection("127.0.0.1", admin.port, timeout=60)) as client:
            client.request("POST", "/login", body, {"Content-Type": "application/json"})
            assert client.getresponse().status == 400


# --- The worker ---


def of_worker(admin: Admin, box: sink.Box, starts: int) -> Iterator[Row]:
    ready: list[float] = []
    found: dict[str, list[float]] = {}
    for _ in range(starts):
        start = time.perf_counter()
        process = admin.starts("manage.py", "worker")
        try:
            wait_until(lambda: is_there(admin))
            ready.append(time.perf_counter() - start)
            for what, value in mailing(admin, box, process):
                found.setdefault(what, []).append(value)
        finally:
            admin.stops()
    yield Row("worker ready", ready, " s")
    yield from (Row(f"worker, {what}", values, " MiB") for what, values in found.items())


def is_there(admin: Admin) -> bool:
    """It signs when it has looked for mail once, and takes its sign away at its end."""
    path = admin.environ["FLASK_SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT 1 FROM worker_sign").fetchone() is not None


def mailing(admin: Admin, box: sink.Box, process: Process) -> Iterator[tuple[str, float]]:
    if not has_memory():
        return
    yield "before any mail, RSS", rss(process.pid)
    yield "before any mail, PSS", pss(process.pid)
    count = box.count()
    assert admin.types("users", "send-reset", "alice").returncode == 0
    wait_until(lambda: box.count() > count)
    yield "after a mail, RSS", rss(process.pid)


# --- Memory, as Linux tells it ---


def has_memory() -> bool:
    return sys.platform == "linux"


def children(number: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def rss(number: int) -> float:
    return _told(Path(f"/proc/{number}/status"), "VmRSS")


def pss(number: int) -> float:
    return _told(Path(f"/proc/{number}/smaps_rollup"), "Pss")


def _told(path: Path, name: str) -> float:
    [line] = (line for line in path.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def peak_of(number: int, act: Callable[[], None]) -> float:
    """The most that is in use while something is done."""
    most, done = 0.0, threading.Event()

    def look() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, rss(number))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        act()
    finally:
        done.set()
        looking.join()
    return most


def wait_until(is_so: Callable[[], bool]) -> None:
    """As the tests' `wait_for`, but finer: it is what is measured."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "that takes too long"
        time.sleep(0.005)


if __name__ == "__main__":
    main()
