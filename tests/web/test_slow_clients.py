"""Clients that send half a request hold a connection, and no thread."""

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from support.admin import Admin
from support.servers import NO_TLS, free_port
from support.site import OLD_PASSWORD, wait_for

SLOW_CLIENTS = 200
BODY = json.dumps({"identity": "alice"}).encode()
HEAD = (
    "POST /reset HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    f"Connection: close\r\nContent-Length: {len(BODY)}\r\n"
)
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
        connections = []
        for _ in range(SLOW_CLIENTS):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", admin.port), timeout=10))
            connection.sendall(half.replace(b"{port}", str(admin.port).encode()))
            connections.append(connection)
        yield connections


@pytest.mark.requirement("R32")
@pytest.mark.parametrize("half", HALVES)
def test_two_hundred_slow_clients_keep_nobody_out(database: Callable[[], str], half: str) -> None:
    admin = Admin(database(), free_port())
    try:
        admin.serves(1, None)
        with (
            slow_clients(admin, HALVES[half]) as connections,
            httpx.Client(base_url=admin.base, timeout=10, verify=NO_TLS) as client,
        ):
            start = time.perf_counter()
            for _ in range(10):
                assert client.get("/healthz").status_code == 200
                assert client.post("/reset", json={"identity": "alice"}).status_code == 200
            assert time.perf_counter() - start < 5
            if half == "body":  # at last, the rest
                connections[-1].sendall(BODY[5:])
                assert connections[-1].recv(100).startswith(b"HTTP/1.1 200 ")
    finally:
        admin.stops()


def test_stop_finishes_requests_in_hand_and_waits_for_no_slow_client(database: Callable[[], str]) -> None:
    admin = Admin(database(), free_port())
    admin.serves(1, None)
    body = {"identity": "alice", "password": OLD_PASSWORD}
    codes: list[int] = []

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
