"""Web servers and slow clients: `.venv/bin/python bench/servers.py` prints the table of docs/decisions.md.

Each server runs one process on PostgreSQL. Granian is compared if it is installed, with more threads than
its default of one. Figures of one run are comparable, those of two runs are not.
"""

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from statistics import median

import databases
import httpx
import load
import report
import stage
from peer import SPAREKEY_JSON, raw
from stage import Site, say, servers, wait_for

SLOW, SIGN_INS, SECONDS = 200, 12, 4.0
UP_SECONDS, END_SECONDS = 10.0, 45.0
GTHREAD = "-m gunicorn -b 127.0.0.1:{port} {app} -k gthread --threads"
WAITRESS = "-m waitress --listen=127.0.0.1:{port} --threads=128 --connection-limit=1000 --asyncore-use-poll"
GRANIAN = "-m granian --interface wsgi --blocking-threads 128 --port {port} --backpressure 1000 --factory"
SERVERS = {
    "gunicorn, 8 threads": f"{GTHREAD} 8",
    "gunicorn, 8 threads, nginx": f"{GTHREAD} 8",
    "gunicorn, 256 threads": f"{GTHREAD} 256",
    "waitress, 128 threads": f"{WAITRESS} --call sparekey:create_app",
    "granian, 128 threads": f"{GRANIAN} sparekey:create_app",
    "gunicorn with waitress, 128 threads": "-m gunicorn -b 127.0.0.1:{port} {app}",
}
SIGN_IN = {"identity": "nobody@example.com", "password": "wrong"}
REQUEST = raw(httpx.Request("POST", "http://127.0.0.1/reset", json={"identity": "nobody@example.com"}))
HEAD = REQUEST.partition(b"\r\n\r\n")[0]
HALVES = {"half a line": REQUEST[:8], "half the headers": HEAD, "half a body": REQUEST[:-9]}
COLUMNS = ["server", "/reset a second", "MiB", *HALVES, "/reset a second beside them"]
COLUMNS += ["/reset beside 40 sign-ins", "SIGTERM", "SIGTERM beside slow bodies"]
NGINX = """events {{}} pid {folder}/pid; error_log {folder}/log; http {{ access_log off; {temporary}
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }} }}"""
NGINX_FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def main() -> None:
    stage.prepare()
    rows = []
    with databases.started("PostgreSQL") as engine:
        filled = stage.fill(SPAREKEY_JSON, engine.create(), 1)
        for name, server in SERVERS.items():
            if "granian" in name and find_spec("granian") is None:
                continue
            say(name)
            with started(name, server, engine.copy(filled)) as site:
                row = [name, *under_load(site), stop(site)]
            with started(name, server, engine.copy(filled)) as site, slow_clients(site, "half a body"):
                rows.append([*row, stop(site)])
    print(report.table(COLUMNS, rows))


@contextmanager
def started(name: str, server: str, database: str) -> Iterator[Site]:
    """Run a server, perhaps behind nginx."""
    with ExitStack() as stack:
        running = stage.running(SPAREKEY_JSON, database, 1, has_worker=False, server=server)
        site = stack.enter_context(running)
        if "nginx" in name:
            site.port = stack.enter_context(nginx(site.port))
        yield site


@contextmanager
def nginx(behind: int) -> Iterator[int]:
    """Run nginx as documented, but without TLS."""
    port = servers.free_port()
    with tempfile.TemporaryDirectory() as folder:
        temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in NGINX_FOLDERS)
        conf = Path(folder, "conf")
        conf.write_text(NGINX.format(folder=folder, temporary=temporary, port=port, behind=behind))
        command = ["/usr/sbin/nginx", "-c", str(conf), "-p", folder, "-g", "daemon off;"]
        with servers.listening(command, port):
            yield port


def under_load(site: Site) -> list[str]:
    """Return rates and memory, and how soon a server answers beside slow clients."""
    requests_a_second(site)  # loads and compiles
    row = [requests_a_second(site), f"{site.memory():.0f}"]
    for half in HALVES:
        with slow_clients(site, half):
            seconds = answer_seconds(site)
            row.append(f"{seconds:.2f} s" if seconds < UP_SECONDS else "no answer")
            if half == "half a body":
                row.append(requests_a_second(site) if seconds < UP_SECONDS else "0")
    return [*row, reset_beside_sign_ins(site)]


def answer_seconds(site: Site) -> float:
    start = time.perf_counter()
    with suppress(httpx.TransportError), site.client(UP_SECONDS) as client:
        client.get("/healthz")
        return time.perf_counter() - start
    return float("inf")


def requests_a_second(site: Site) -> str:
    return f"{load.send(site.port, repeat(REQUEST), seconds=SECONDS).per_second:.0f}"


def reset_beside_sign_ins(site: Site) -> str:
    """Return the median time of a request while 40 people sign in, each again and again."""
    with site.client() as client, ThreadPoolExecutor(1) as beside:
        sign_in = raw(client.build_request("POST", "/login", json=SIGN_IN))
        beside.submit(load.send, site.port, repeat(sign_in), 40, 10.0)
        time.sleep(2)
        return f"{median(load.send(site.port, repeat(REQUEST), 1, 5.0).waits):.0f} ms"


@contextmanager
def slow_clients(site: Site, half: str) -> Iterator[None]:
    with ExitStack() as held:
        for _ in range(SLOW):
            connection = socket.create_connection(("127.0.0.1", site.port), timeout=5)
            held.enter_context(connection).sendall(HALVES[half])
        time.sleep(0.5)
        yield
    time.sleep(0.5)


def stop(site: Site) -> str:
    """Send SIGTERM while people sign in. Return how many are answered, and the seconds."""
    with ThreadPoolExecutor(SIGN_INS) as people:
        answers = [people.submit(sign_in, site) for _ in range(SIGN_INS)]
        wait_for(lambda: any(answer.done() for answer in answers), UP_SECONDS)
        [server] = site.processes
        server.send_signal(signal.SIGTERM)
        start = time.perf_counter()
        with suppress(subprocess.TimeoutExpired):
            server.wait(END_SECONDS)
        seconds = time.perf_counter() - start
        site.end()
        return f"{sum(answer.result() == 400 for answer in answers)} of {SIGN_INS}, {seconds:.1f} s"


def sign_in(site: Site) -> int:
    with suppress(httpx.TransportError), site.client() as client:
        return client.post("/login", json=SIGN_IN).status_code
    return 0


if __name__ == "__main__":
    main()
