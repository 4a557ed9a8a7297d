"""Raw requests to gunicorn, as no HTTP library sends them: foreign hosts, huge bodies, long heads, half requests."""

import json
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from support.admin import Admin
from support.mailbox import html_of, text_of
from support.servers import NO_TLS, free_port
from support.site import OLD_PASSWORD, Site, wait_for
from support.urls import BAIT

POST, JSON = "POST /reset HTTP/1.1", "Content-Type: application/json"
BODY = json.dumps({"identity": "alice"}).encode()
SOON = 5  # seconds: generous; it takes a few milliseconds


@pytest.fixture(scope="module")
def gunicorn(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    path = tmp_path_factory.mktemp("raw") / "site.db"
    shutil.copy(fresh_sqlite, path)
    admin = Admin(f"sqlite:///{path}", mail_port=1)
    admin.serves(1, None)
    yield admin
    admin.stops()


def send(admin: Admin, request: bytes, *more: bytes) -> tuple[int, str]:
    """Send these bytes and return the status and the whole answer."""
    began, answer = time.perf_counter(), b""
    with socket.create_connection(("127.0.0.1", admin.port), timeout=SOON) as connection:
        with suppress(OSError):  # gunicorn may answer and close before it has read everything
            for part in (request, *more):
                connection.sendall(part)
        with suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                answer += part
    assert time.perf_counter() - began < SOON
    return int(answer.split()[1]), answer.decode("latin-1")


def request_for(admin: Admin, line: str, *headers: str, body: bytes = b"", host: str | None = None) -> bytes:
    host = f"Host: {host or f'127.0.0.1:{admin.port}'}"
    lines = [line, host, "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# --- foreign hosts ---

NAMES = ["X-Forwarded-Host", "X-Host", "X-Original-Host", "X-Forwarded-Server", "X-HTTP-Host-Override"]
FOREIGN_HOST_HEADERS = [f"{name}: {host}" for name in NAMES for host in (BAIT, f"{BAIT}:80", f'"{BAIT}"')]
FOREIGN_HOST_HEADERS += [f"Forwarded: host={BAIT};proto=http", "X-Forwarded-Proto: https"]
FOREIGN_HOST_HEADERS += ["X-Forwarded-Port: 1", "X-Forwarded-Prefix: /evil", f"X-Original-URL: //{BAIT}/"]
FOREIGN_HOST_HEADERS += [f"X-Rewrite-URL: //{BAIT}/", "X-Script-Name: /evil", "Script-Name: /evil"]


@pytest.mark.requirement("R19", "R52", "R54")
def test_foreign_host_in_raw_request_reaches_no_mail(make_site: Any, gunicorn: Admin) -> None:
    uri = gunicorn.environ["FLASK_SQLALCHEMY_DATABASE_URI"]
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_PUBLIC_URL=gunicorn.base)
    end = f"{JSON}\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n\r\n{BODY.decode()}"

    def ask(line: str, *headers: str, host: str | None = None) -> bytes:
        return request_for(gunicorn, line, JSON, *headers, body=BODY, host=host)

    served = [
        ask(POST, *FOREIGN_HOST_HEADERS),
        ask(f"POST http://{BAIT}/reset HTTP/1.1"),
        ask(POST, host=f"{BAIT}@127.0.0.1"),
    ]
    refused = [
        ask(POST, host=BAIT),
        ask(POST, f"Host: {BAIT}"),
        ask(POST, f"Host: 127.0.0.1:{gunicorn.port}", host=BAIT),
        ask(POST, host=f"127.0.0.1\r\n {BAIT}"),
        ask(POST, host=f"127.0.0.1:1@{BAIT}"),
        ask(POST, "Transfer-Encoding: chunked"),
        ask(POST, "User-Agent: \x1b[2J\x00"),
        f"POST /reset HTTP/1.0\r\nX-Host: {BAIT}\r\nX-Original-URL: http://{BAIT}/\r\n{end}".encode(),
        f"POST http://127.0.0.1/reset HTTP/1.1\r\nHost: {BAIT}\r\n{end}".encode(),
        f"{POST}\r\n{end}".encode(),
    ]
    for expected, requests in ((200, served), (400, refused)):
        for request in requests:
            status, answer = send(gunicorn, request)
            assert (status, BAIT in answer) == (expected, False), request
            assert site.work() == (1 if status == 200 else 0), request
    assert len(site.mailbox.raw) == len(served)
    for raw, mail in zip(site.mailbox.raw, site.mailbox.mails, strict=True):
        assert BAIT.encode() not in raw
        assert set(re.findall(r"https?://[^/\s\"<]+", text_of(mail) + html_of(mail))) == {gunicorn.base}
    for target in ("/change", "/reset//x", f"http://{BAIT}/change", f"http://{BAIT}//reset//x"):
        _, answer = send(gunicorn, request_for(gunicorn, f"GET {target} HTTP/1.1", *FOREIGN_HOST_HEADERS))
        [location] = re.findall(r"(?im)^location: *(\S+)", answer)
        assert urljoin(gunicorn.base, location).startswith(f"{gunicorn.base}/"), (target, location)


# --- size ---


@pytest.mark.requirement("R7", "R32")
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/reset", "x-www-form-urlencoded"),
        ("/login", "json"),
        ("/reset/x", "octet-stream"),
        ("/nowhere", "json"),
    ],
)
def test_body_of_thirty_megabytes_or_unknown_length_is_refused_unread(
    gunicorn: Admin, path: str, kind: str
) -> None:
    body = b"x" * (30 << 20)
    line = f"POST {path} HTTP/1.1"
    head = f"{line}\r\nHost: 127.0.0.1:{gunicorn.port}\r\nContent-Type: application/{kind}\r\n"
    assert send(gunicorn, f"{head}Content-Length: {len(body)}\r\n\r\n".encode(), body)[0] in (400, 404, 413)
    chunks = (b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n")
    assert send(gunicorn, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks)[0] in (404, 411, 413)


@pytest.mark.parametrize(
    ("line", "header", "status"),
    [
        (f"GET /login?{'x' * 20_000} HTTP/1.1", "", 431),
        ("GET /login HTTP/1.1", "Cookie: " + "a=b;" * 250_000, 431),
        ("GET /login HTTP/1.1", "\r\n".join(f"X{number}: x" for number in range(5_000)), 431),
        (POST, f"Content-Length: {'9' * 5_000}", 400),
        ("GET /login HTTP/1.1", "SCRIPT_NAME: /evil", 200),  # no server error
        ("GET /change HTTP/1.1", "Cookie: sparekey_remember=\xff|\xff; \xe9=1", 302),
    ],
)
def test_oversized_or_odd_head_is_answered(gunicorn: Admin, line: str, header: str, status: int) -> None:
    head = f"{line}\r\nHost: 127.0.0.1:{gunicorn.port}\r\nConnection: close\r\n{header}\r\n\r\n"
    assert send(gunicorn, head.replace("\r\n\r\n\r\n", "\r\n\r\n").encode("latin-1"))[0] == status
    assert send(gunicorn, request_for(gunicorn, "GET /healthz HTTP/1.1"))[0] == 200


@pytest.mark.requirement("R66")
def test_body_over_the_maximum_is_answered_by_the_app(gunicorn: Admin) -> None:
    body = b'{"identity": "' + b"x" * 200_000 + b'"}'
    status, answer = send(gunicorn, request_for(gunicorn, POST, JSON, body=body))
    assert (status, '"error_code"' in answer) == (413, True)
    assert not re.search(r"(?im)^server:.*\d", answer)  # no version


@pytest.mark.requirement("R32")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_body_on_its_way_takes_no_file(gunicorn: Admin) -> None:
    """A thousand of them would leave none for the database."""
    [master] = [process.pid for process in gunicorn.running]
    [worker] = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    before, clients = len(list(Path(f"/proc/{worker}/fd").iterdir())), 20
    head = request_for(gunicorn, POST, JSON).replace(b"Content-Length: 0", b"Content-Length: 1000000")
    with ExitStack() as held:
        for _ in range(clients):
            client = held.enter_context(socket.create_connection(("127.0.0.1", gunicorn.port), timeout=SOON))
            with suppress(OSError):  # refused at once
                client.sendall(head + b"x" * 700_000)
        time.sleep(1)
        assert len(list(Path(f"/proc/{worker}/fd").iterdir())) <= before + clients


# --- half requests, which hold a connection, and no thread ---

HEAD = f"{POST}\r\nHost: 127.0.0.1:{{port}}\r\n{JSON}\r\nConnection: close\r\nContent-Length: {len(BODY)}\r\n"
HALVES = {
    "nothing": b"",
    "request line": b"POST /re",
    "headers": HEAD.encode(),
    "body": HEAD.encode() + b"\r\n" + BODY[:5],
    "everything, and never closes": HEAD.encode() + b"\r\n" + BODY,
}


@contextmanager
def slow_clients(admin: Admin, half: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as held:
        address = ("127.0.0.1", admin.port)
        connections = [held.enter_context(socket.create_connection(address, timeout=10)) for _ in range(200)]
        for connection in connections:
            connection.sendall(half.replace(b"{port}", str(admin.port).encode()))
        yield connections


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("half", HALVES)
def test_two_hundred_slow_clients_keep_nobody_out(gunicorn: Admin, half: str) -> None:
    client = httpx.Client(base_url=gunicorn.base, timeout=10, verify=NO_TLS)
    with slow_clients(gunicorn, HALVES[half]) as connections, client:
        start = time.perf_counter()
        for _ in range(10):
            assert client.get("/healthz").status_code == 200
            assert client.post("/reset", json={"identity": "alice"}).status_code == 200
        assert time.perf_counter() - start < 5
        if half == "body":  # at last, the rest
            connections[-1].sendall(BODY[5:])
            assert connections[-1].recv(100).startswith(b"HTTP/1.1 200 ")


def test_stop_finishes_requests_in_hand_and_waits_for_no_slow_client(database: Callable[[], str]) -> None:
    admin = Admin(database(), free_port())
    admin.serves(1, None)
    body, codes = {"identity": "alice", "password": OLD_PASSWORD}, []

    def sign_in() -> None:
        with httpx.Client(timeout=30, verify=NO_TLS, headers={"Connection": "close"}) as client:
            codes.append(client.post(f"{admin.base}/login", json=body).status_code)

    with slow_clients(admin, HALVES["body"]), ThreadPoolExecutor(12) as people:
        for _ in range(12):
            people.submit(sign_in)
        wait_for(lambda: len(codes) >= 1)  # the others wait for their hash
        [server] = admin.running
        start = time.perf_counter()
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0
        assert time.perf_counter() - start < 10
    admin.stops()
    assert codes == [200] * 12


@pytest.mark.parametrize("version", [" HTTP/1.0", " HTTP/1.0 ", " HTTP/1.2", ""])
def test_transfer_coding_in_another_http_than_1_1_ends_the_connection(gunicorn: Admin, version: str) -> None:
    """waitress ignores it there, and takes the body for the next request."""
    host = f"Host: 127.0.0.1:{gunicorn.port}\r\nConnection: keep-alive\r\n"
    head = f"POST /reset{version}\r\n{host}Transfer-Encoding: chunked\r\n\r\n"
    _, answer = send(gunicorn, head.encode(), f"GET /healthz HTTP/1.0\r\n{host}\r\n".encode())
    assert answer.count("HTTP/1.") == 1
