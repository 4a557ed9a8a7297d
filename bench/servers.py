"""Web servers and slow clients: `.venv/bin/python bench/servers.py` prints the table of docs/decisions.md.

Each server runs one process on PostgreSQL. Granian is compared if it is installed, with more threads than
its default of one. Figures of one run are comparable, those of two runs are not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path

import httpx
import load
from stage import LOG, ROOT, prepare, say
from support.admin import deployment, inherited
from support.servers import NO_TLS, find_postgresql, free_port, postgresql
from support.site import fill

SLOW, SIGN_INS, SECONDS = 200, 40, 4.0
_GUNICORN = "-m gunicorn -b 127.0.0.1:{port} app:create_app()"
_WAITRESS = "--listen=127.0.0.1:{port} --threads=128 --connection-limit=1000 --asyncore-use-poll"
_GRANIAN = "--interface wsgi --blocking-threads 128 --port {port} --backpressure 1000"
SERVERS = {
    "gunicorn, 8 threads": f"{_GUNICORN} -k gthread --threads 8",
    "gunicorn, 8 threads, nginx": f"{_GUNICORN} -k gthread --threads 8",
    "gunicorn, 256 threads": f"{_GUNICORN} -k gthread --threads 256",
    "waitress, 128 threads": f"-m waitress {_WAITRESS} --call app:create_app",
    "granian, 128 threads": f"-m granian {_GRANIAN} --factory app:create_app",
    "gunicorn with waitress, 128 threads": _GUNICORN,
}
BODY = json.dumps({"identity": "nobody@example.com"})
HEAD = "POST /reset HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HEAD += f"Content-Length: {len(BODY)}\r\n"
REQUEST = f"{HEAD}\r\n{BODY}".encode()
NGINX_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
HALVES = {"half a line": b"POST /re", "half the headers": HEAD.encode(), "half a body": REQUEST[:-9]}


class Running:
    """One server, its port, and its process."""

    def __init__(self, name: str, uri: str, stack: ExitStack) -> None:
        self.port = port = free_port()
        words = SERVERS[name].format(port=port).split()
        environ = {**inherited(), **deployment(uri, 1, f"http://127.0.0.1:{port}")}
        environ |= {name: text for name, text in os.environ.items() if name == "PYTHONPATH"}
        with LOG.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environ, stdout=log, stderr=log
            )
        stack.callback(self.kill)
        self.answer_seconds(60)
        if "nginx" in name:
            self.port = stack.enter_context(plain_nginx(port))

    def kill(self) -> None:
        for pid in [*self.family(), self.process.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def family(self) -> list[int]:
        """Return the ids of the processes."""
        with suppress(OSError):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            return [self.process.pid, *map(int, children)]
        return []

    def memory(self) -> float:
        """Return MiB of all processes, by their share (PSS)."""
        lines = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.family()).splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def answer_seconds(self, limit: float = 10) -> float:
        """Return the seconds until /healthz answers, or infinity."""
        start = time.perf_counter()
        while time.perf_counter() - start < limit:
            with suppress(httpx.TransportError), httpx.Client(verify=NO_TLS, timeout=limit) as client:
                client.get(f"http://127.0.0.1:{self.port}/healthz")
                return time.perf_counter() - start
            time.sleep(0.05)
        return float("inf")

    def per_second(self) -> float:
        return load.send(self.port, repeat(REQUEST), seconds=SECONDS).per_second


@contextmanager
def plain_nginx(behind: int) -> Iterator[int]:
    """Run the documented nginx without TLS."""
    port = free_port()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in NGINX_FOLDERS)
        site = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }}"
        http = f"http {{ {places} access_log off; {site} }}"
        (folder / "conf").write_text(f"events {{}} pid {folder}/pid; error_log {folder}/log; {http}")
        command = ["/usr/sbin/nginx", "-c", str(folder / "conf"), "-p", name, "-g", "daemon off;"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield port
        finally:
            process.terminate()
            process.wait()


@contextmanager
def slow_clients(port: int, half: bytes) -> Iterator[None]:
    with ExitStack() as held:
        for _ in range(SLOW):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)).sendall(half)
        time.sleep(0.5)
        yield
    time.sleep(0.5)


def sign_in(port: int) -> int:
    body = {"identity": "alice", "password": "wrong"}
    with suppress(httpx.TransportError), httpx.Client(verify=NO_TLS, timeout=60) as client:
        return client.post(f"http://127.0.0.1:{port}/login", json=body).status_code
    return 0


def reset_milliseconds_beside_sign_ins(port: int) -> float:
    """Return the median of /reset while 40 people sign in, each again and again."""
    is_over, waits = threading.Event(), []

    def person() -> None:
        while not is_over.is_set():
            sign_in(port)

    with ThreadPoolExecutor(SIGN_INS) as people:
        for _ in range(SIGN_INS):
            people.submit(person)
        time.sleep(2)
        while len(waits) < 15:
            start = time.perf_counter()
            httpx.post(f"http://127.0.0.1:{port}/reset", json=json.loads(BODY), timeout=60, verify=NO_TLS)
            waits.append((time.perf_counter() - start) * 1000)
        is_over.set()
    return statistics.median(waits)


def stop(server: Running, half: bytes | None) -> str:
    """Send SIGTERM while 12 sign-ins are in hand. Return how many are answered, and the seconds."""
    with ExitStack() as stack, ThreadPoolExecutor(12) as people:
        if half:
            stack.enter_context(slow_clients(server.port, half))
        answers = [people.submit(sign_in, server.port) for _ in range(12)]
        wait_until(lambda: any(answer.done() for answer in answers))
        server.process.send_signal(signal.SIGTERM)
        start = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(45)
        seconds = time.perf_counter() - start
        server.kill()
        return f"{sum(answer.result() == 400 for answer in answers)} of 12, {seconds:.1f} s"


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.005)


def measure(name: str, uri: str) -> list[str]:
    with ExitStack() as stack:
        server = Running(name, uri, stack)
        server.per_second()
        row = [f"{server.per_second():.0f}", f"{server.memory():.0f}"]
        for half in HALVES.values():
            with slow_clients(server.port, half):
                row.append(f"{seconds:.2f} s" if (seconds := server.answer_seconds()) < 10 else "no answer")
        with slow_clients(server.port, HALVES["half a body"]):
            is_up = server.answer_seconds() < 10
            row += [f"{server.per_second():.0f}" if is_up else "0", f"{server.memory():.0f}"]
        server.answer_seconds(60)
        row.append(f"{reset_milliseconds_beside_sign_ins(server.port):.0f} ms")
        row.append(stop(server, None))
    with ExitStack() as stack:
        row.append(stop(Running(name, uri, stack), HALVES["half a body"]))
    return [name, *row]


def main() -> None:
    prepare()
    heads = [
        "server",
        "/reset a second",
        "MiB",
        *HALVES,
        "/reset a second beside them",
        "MiB",
        "/reset beside 40 sign-ins",
    ]
    print(" | ".join([*heads, "SIGTERM", "SIGTERM beside slow bodies"]), flush=True)
    programs = find_postgresql()
    assert programs
    with postgresql(programs) as engine:
        for name in SERVERS:
            if "granian" in name and find_spec("granian") is None:
                continue
            say(name)
            print(" | ".join(measure(name, fill(engine.create()))), flush=True)


if __name__ == "__main__":
    main()
