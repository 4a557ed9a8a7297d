"""A relay whose reply never ends: the worker's memory stays small, and the relay counts as away."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from support.site import Site

from app.mail.smtp import REPLY_BYTES_MAX
from app.mail.smtp_failures import RelayAway

BEFORE = {b"220": [], b"EHLO": [b"220 hello\r\n"], b"MAIL": [b"220 hello\r\n", b"250 hello\r\n"]}


@contextmanager
def flooding(command: bytes) -> Iterator[tuple[int, list[int]]]:
    """A relay that replies to a command with lines without end, at most 64 MiB. Yields port and bytes sent."""
    sent = [0]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            for reply in BEFORE[command]:
                connection.sendall(reply)
                connection.recv(1024)
            line = b"250-" + b"x" * 60 + b"\r\n"
            while sent[0] < 64 * 1024 * 1024:
                sent[0] += connection.send(line * 1000)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], sent
    finally:
        thread.join(timeout=20)
        listener.close()
        assert not thread.is_alive()


@pytest.mark.requirement("R3", "R62")
@pytest.mark.parametrize("command", BEFORE)
def test_reply_without_end_counts_as_a_relay_that_is_away(make_site: Any, command: bytes) -> None:
    with flooding(command) as (port, sent):
        site: Site = make_site(MAIL_PORT=port)
        site.ask()
        with pytest.raises(RelayAway):
            site.work()
        [message] = site.messages()
        assert (message["state"], message["attempts"]) == ("waiting", 0)
    assert sent[0] < 100 * REPLY_BYTES_MAX  # what the kernel's buffers take
