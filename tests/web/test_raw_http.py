"""Raw requests to gunicorn, as no HTTP library sends them: foreign hosts, huge bodies, long heads."""

import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from support.admin import Admin
from support.mailbox import html_of, text_of
from support.site import Site
from support.urls import BAIT

JSON = "application/json"
SOON = 5  # seconds: generous; it takes a few milliseconds


@pytest.fixture(scope="module")
def gunicorn(fresh_sqlite: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    path = tmp_path_factory.mktemp("raw") / "site.db"
    shutil.copy(fresh_sqlite, path)
    admin = Admin(f"sqlite:///{path}", mail_port=1)
    admin.serves()
    yield admin
    admin.stops()


def send(admin: Admin, request: bytes, *more: bytes) -> bytes:
    """Send these bytes and return the answer."""
    began, answer = time.perf_counter(), b""
    with socket.create_connection(("127.0.0.1", admin.port), timeout=SOON) as connection:
        with suppress(OSError):  # gunicorn may answer and close before it has read everything
            for part in (request, *more):
                connection.sendall(part)
        with suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                answer += part
    assert time.perf_counter() - began < SOON
    return answer


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def request_for(admin: Admin, line: str, *headers: str, body: bytes = b"", host: str | None = None) -> bytes:
    host = f"Host: {host or f'127.0.0.1:{admin.port}'}"
    lines = [line, host, "Connection: close", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# --- foreign hosts ----------------------------------------------------------------------------------

NAMES = ["X-Forwarded-Host", "X-Host", "X-Original-Host", "X-Forwarded-Server", "X-HTTP-Host-Override"]
FOREIGN_HOST_HEADERS = [f"{name}: {host}" for name in NAMES for host in (BAIT, f"{BAIT}:80", f'"{BAIT}"')]
FOREIGN_HOST_HEADERS += [f"Forwarded: host={BAIT};proto=http", "X-Forwarded-Proto: https"]
FOREIGN_HOST_HEADERS += ["X-Forwarded-Port: 1", "X-Forwarded-Prefix: /evil", f"X-Original-URL: //{BAIT}/"]
FOREIGN_HOST_HEADERS += [f"X-Rewrite-URL: //{BAIT}/", "X-Script-Name: /evil", "Script-Name: /evil"]


@pytest.mark.requirement("R19", "R54")
def test_foreign_host_in_raw_request_reaches_no_mail(make_site: Any, gunicorn: Admin) -> None:
    uri = gunicorn.environ["FLASK_SQLALCHEMY_DATABASE_URI"]
    site: Site = make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_PUBLIC_URL=gunicorn.base)
    post, body = "POST /reset HTTP/1.1", b'{"identity": "alice"}'
    end = f"Content-Type: {JSON}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body.decode()}"

    def ask(line: str, *headers: str, host: str | None = None) -> bytes:
        return request_for(gunicorn, line, f"Content-Type: {JSON}", *headers, body=body, host=host)

    served = [
        ask(post, *FOREIGN_HOST_HEADERS),
        ask(f"POST http://{BAIT}/reset HTTP/1.1"),
        ask(post, host=f"{BAIT}@127.0.0.1"),
    ]
    refused = [
        ask(post, host=BAIT),
        ask(post, f"Host: {BAIT}"),
        ask(post, f"Host: 127.0.0.1:{gunicorn.port}", host=BAIT),
        ask(post, host=f"127.0.0.1\r\n {BAIT}"),
        ask(post, host=f"127.0.0.1:1@{BAIT}"),
        ask(post, "Transfer-Encoding: chunked"),
        ask(post, "User-Agent: \x1b[2J\x00"),
        f"POST /reset HTTP/1.0\r\nX-Host: {BAIT}\r\nX-Original-URL: http://{BAIT}/\r\n{end}".encode(),
        f"POST http://127.0.0.1/reset HTTP/1.1\r\nHost: {BAIT}\r\n{end}".encode(),
        f"{post}\r\n{end}".encode(),
    ]
    for status, requests in ((200, served), (400, refused)):
        for request in requests:
            answer = send(gunicorn, request)
            assert status_of(answer) == status, request
            assert BAIT.encode() not in answer, request
            assert site.work() == (1 if status == 200 else 0), request
    assert len(site.mailbox.raw) == len(served)
    for raw, mail in zip(site.mailbox.raw, site.mailbox.mails, strict=True):
        assert BAIT.encode() not in raw
        assert set(re.findall(r"https?://[^/\s\"<]+", text_of(mail) + html_of(mail))) == {gunicorn.base}


@pytest.mark.requirement("R19", "R52")
def test_foreign_host_in_raw_request_reaches_no_redirect(gunicorn: Admin) -> None:
    locations = []
    paths = ["/change", "//reset", "/reset//x", "/.well-known/change-password", "/reset-done"]
    for path in (*paths, f"//{BAIT}/reset"):
        for target in (path, f"http://{BAIT}{path}", f"//{BAIT}{path}"):
            line = f"GET {target} HTTP/1.1"
            answer = send(gunicorn, request_for(gunicorn, line, *FOREIGN_HOST_HEADERS))
            with_host = send(gunicorn, request_for(gunicorn, line, *FOREIGN_HOST_HEADERS, host=BAIT))
            head = answer.partition(b"\r\n\r\n")[0].decode()
            assert status_of(answer) in (200, 302, 303, 308, 404), head
            locations += re.findall(r"(?im)^location: *(\S+)", head + with_host.decode())
    assert len(locations) >= 6
    for location in locations:
        assert urljoin(gunicorn.base, location).startswith(f"{gunicorn.base}/"), location
        assert not location.startswith("//")


def test_header_with_underscore_is_no_server_error(gunicorn: Admin) -> None:
    answer = send(gunicorn, request_for(gunicorn, "GET /login HTTP/1.1", "SCRIPT_NAME: /evil"))
    assert status_of(answer) < 500


# --- size -------------------------------------------------------------------------------------------


@pytest.mark.requirement("R7", "R32")
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", JSON, "multipart/form-data; boundary=a", "text/plain"]
)
def test_body_of_thirty_megabytes_or_unknown_length_is_refused_unread(gunicorn: Admin, kind: str) -> None:
    body = b"x" * (30 << 20)
    for line in (
        "POST /reset",
        "POST /login",
        "POST /reset/x",
        "POST /change",
        "POST /nowhere",
        "GET /reset",
    ):
        head = f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{gunicorn.port}\r\nContent-Type: {kind}\r\n"
        whole = send(gunicorn, f"{head}Content-Length: {len(body)}\r\n\r\n".encode(), body)
        assert status_of(whole) in (400, 404, 413), line
        chunks = (b"%x\r\n" % len(body), body, b"\r\n0\r\n\r\n")
        chunked = send(gunicorn, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode(), *chunks)
        assert status_of(chunked) in (404, 411, 413), line


def test_length_of_thousands_of_digits_is_refused(gunicorn: Admin) -> None:
    head = f"POST /reset HTTP/1.1\r\nHost: 127.0.0.1:{gunicorn.port}\r\nContent-Length: {'9' * 5_000}\r\n\r\n"
    assert status_of(send(gunicorn, head.encode())) == 400


def test_body_over_the_maximum_is_answered_by_the_app(gunicorn: Admin) -> None:
    body = b'{"identity": "' + b"x" * 200_000 + b'"}'
    answer = send(gunicorn, request_for(gunicorn, "POST /reset HTTP/1.1", f"Content-Type: {JSON}", body=body))
    assert status_of(answer) == 413
    assert b'"error_code"' in answer


@pytest.mark.requirement("R32")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files by /proc")
def test_body_on_its_way_takes_no_file(gunicorn: Admin) -> None:
    """A thousand of them would leave none for the database."""
    [master] = [process.pid for process in gunicorn.running]
    [worker] = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    before, clients = len(list(Path(f"/proc/{worker}/fd").iterdir())), 20
    with ExitStack() as held:
        for _ in range(clients):
            client = held.enter_context(socket.create_connection(("127.0.0.1", gunicorn.port), timeout=SOON))
            head = request_for(gunicorn, "POST /reset HTTP/1.1", f"Content-Type: {JSON}").decode()
            head = head.replace("Content-Length: 0", "Content-Length: 1000000")
            with suppress(OSError):  # refused at once
                client.sendall(head.encode() + b"x" * 700_000)
        time.sleep(1)
        assert len(list(Path(f"/proc/{worker}/fd").iterdir())) <= before + clients


def test_oversized_head_is_refused(gunicorn: Admin) -> None:
    for headers in (
        ["Cookie: " + "a=b;" * 250_000],
        ["X: " + "x" * 20_000],
        [f"X{number}: x" for number in range(5_000)],
    ):
        assert status_of(send(gunicorn, request_for(gunicorn, "GET /login HTTP/1.1", *headers))) == 431
    long_line = f"GET /login?{'x' * 20_000} HTTP/1.1"
    assert status_of(send(gunicorn, request_for(gunicorn, long_line))) == 431
    assert status_of(send(gunicorn, request_for(gunicorn, "GET /healthz HTTP/1.1"))) == 200
