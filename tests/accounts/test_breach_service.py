"""A breach service that drips: nobody waits for it, its threads have a limit, and it is asked again afterwards."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from support.site import load_settings, wait_for

from app.accounts import breaches
from app.web import outgoing

CALLS, CALLS_MAX = 5, 3


class Dripping:
    """A server that answers with a byte every 50 ms, or well."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start, self.drip = b"", b"x"
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self._answer, args=(connection,)).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(4096)
            connection.sendall(self.start)
            while self.drip and not self.stop.wait(0.05):
                connection.sendall(self.drip)


@contextmanager
def dripping() -> Iterator[Dripping]:
    server = Dripping()
    server.thread.start()
    try:
        yield server
    finally:
        server.stop.set()
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        server.thread.join()


def threads() -> int:
    return sum(thread.name.startswith("call to 127.0.0.1") for thread in threading.enumerate())


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_dripping_service_holds_few_threads_and_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, start: bytes
) -> None:
    monkeypatch.setattr(breaches, "WAIT_SECONDS", 0.3)
    monkeypatch.setattr(breaches, "BREAKER_SECONDS", 0)
    monkeypatch.setattr(outgoing, "CALLS_MAX", CALLS_MAX)
    with dripping() as service:
        settings = load_settings(RECOVERY_BREACHES_URL=f"http://127.0.0.1:{service.port}")
        monkeypatch.setattr(breaches, "current", lambda: settings)
        service.start = start
        for _ in range(CALLS):
            began = time.monotonic()
            with pytest.raises(breaches.BreachesUnknown):
                breaches.count_breaches("any password")
            assert time.monotonic() - began < 5
        assert threads() == CALLS_MAX
        service.start, service.drip = (
            b"HTTP/1.1 200 OK\r\nContent-Length: 37\r\n\r\n" + b"0" * 35 + b":1",
            b"",
        )
        wait_for(lambda: threads() == 0, seconds=5)
        assert breaches.count_breaches("any password") == 0


def test_answer_that_the_deadline_cuts_off_is_not_taken_for_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaches, "WAIT_SECONDS", 0.3)
    with dripping() as service:
        settings = load_settings(RECOVERY_BREACHES_URL=f"http://127.0.0.1:{service.port}")
        monkeypatch.setattr(breaches, "current", lambda: settings)
        service.start = b"HTTP/1.1 200 OK\r\n\r\n"
        service.drip = b"0" * 35 + b":1\r\n"  # whole lines, without end
        with pytest.raises(breaches.BreachesUnknown):
            breaches.count_breaches("any password")
