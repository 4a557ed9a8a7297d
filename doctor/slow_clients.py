"""Slow clients: connections that send half a request must not keep others out."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

from .findings import KINDS
from .http_client import USER_AGENT, Client, NoResponse
from .scan import Check, Result, Scan

CONNECTIONS = 200  # more than the threads of a server
ARRIVAL_SECONDS = 0.5  # until the server has begun to read them
HALVES = (
    "GET /hea",
    "GET /healthz HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n",
    "POST {path}/reset HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\n"
    "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{{",
)


def check_slow_clients(scan: Scan) -> Iterator[Result]:
    """Hold connections with half a request line, half the headers or half a body, and ask for /healthz."""
    scan.get("/healthz")  # raises NoResponse if it does not answer anyway
    with ExitStack() as held:
        for number in range(CONNECTIONS):
            with suppress(OSError):  # a server may refuse so many
                connection = held.enter_context(_connect(scan.client))
                half = HALVES[number % len(HALVES)]
                parts = scan.client.parts
                connection.sendall(half.format(host=parts.netloc, path=parts.path, agent=USER_AGENT).encode())
        time.sleep(ARRIVAL_SECONDS)
        another = held.enter_context(closing(Client(scan.client.url)))
        another.context = scan.client.context
        scan.client.requests += 1
        try:
            another.request("GET", "/healthz")
        except NoResponse as error:
            yield KINDS["slow-clients"].found(count=CONNECTIONS, why=error)


def _connect(client: Client) -> socket.socket:
    connection = socket.create_connection((client.host, client.port), timeout=5)
    if client.context is None:
        return connection
    try:
        return client.context.wrap_socket(connection, server_hostname=client.host)
    except OSError:
        connection.close()
        raise


CHECKS = [Check("Slow clients keep no one out.", check_slow_clients)]
