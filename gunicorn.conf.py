"""gunicorn's configuration file. gunicorn keeps the processes, waitress their connections.

gunicorn's own threads each read one connection, so as many slow clients as threads stop a process. waitress
reads all connections in one loop, and a thread gets a request when all of it has arrived.

gunicorn's options for processes, threads, sockets, timeouts and logs work. Those for TLS, access logs, limits
and keep-alive do not; the proxy in front has them.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from typing import Any

from gunicorn.workers.base import Worker
from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError

# More than app.accounts.hashing.WAITING_MAX, so that requests that wait for a hash leave some to the others.
threads = 128

# Sparekey does not use the control socket.
control_socket_disable = True

HEAD_BYTES_MAX = 16_384
# From here on waitress answers 413 itself, in plain text; below it, the app does. Less than waitress keeps in
# memory (512 KiB), because a longer body takes a file of its own, and the process runs out of files.
BODY_BYTES_MAX = 2**18
OTHER_FILES = 124  # besides the clients' sockets: of the database, Redis and logs
IDLE_SECONDS_MAX = 30  # of a connection without a byte, during a request or after it
LINGER_SECONDS = 2  # of a stopping process, for requests on their way. As gunicorn's threads have it


class StrictParser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Refuses what a proxy may read otherwise: two Hosts, two lengths, old chunks (RFC 9112 §3.2, §6)."""

    def parse_header(self, head: bytes) -> None:
        names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")]
        if names.count(b"host") > 1 or {b"content-length", b"transfer-encoding"} <= set(names):
            raise ParsingError("The headers contradict each other")
        is_old = not head.partition(b"\r\n")[0].rstrip().endswith(b"HTTP/1.1")
        if is_old and b"transfer-encoding" in names:  # RFC 9112 §6.1
            raise ParsingError("Transfer-Encoding needs a newer HTTP")
        try:
            super().parse_header(head)
        except ValueError as error:  # a length of thousands of digits
            raise ParsingError("The headers cannot be read") from error


class Client(HTTPChannel):  # type: ignore[misc]
    """A connection."""

    parser_class = StrictParser


class BufferingWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A process that holds `worker_connections` clients, however slow, in one thread."""

    listeners: tuple[Any, ...] = ()

    def run(self) -> None:
        """Serve until SIGTERM, then finish the requests in hand."""
        self.sockets_by_fd: dict[int, Any] = {}
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        create_server(
            self.wsgi,
            map=self.sockets_by_fd,
            sockets=[listener.sock for listener in self.sockets],
            threads=self.cfg.threads,
            backlog=self.cfg.backlog,
            connection_limit=min(self.cfg.worker_connections, files - OTHER_FILES),
            channel_timeout=IDLE_SECONDS_MAX,
            cleanup_interval=5,
            max_request_header_size=HEAD_BYTES_MAX,
            max_request_body_size=max(BODY_BYTES_MAX, self.wsgi.config["MAX_CONTENT_LENGTH"] + 1),
            clear_untrusted_proxy_headers=False,  # RECOVERY_TRUSTED_PROXIES decides
            ident="",
            log_socket_errors=False,  # of clients that hang up
        )
        self.listeners = tuple(self.sockets_by_fd[listener.fileno()] for listener in self.sockets)
        for listener in self.listeners:
            listener.channel_class = Client
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it would log each request of a flood
        while self.alive and self.ppid == os.getppid():
            self._turn()
        for listener in self.listeners:
            listener.accepting = False
        lingers_until, ends_at = (time.monotonic() + s for s in (LINGER_SECONDS, self.cfg.graceful_timeout))
        while self._is_serving(time.monotonic() < lingers_until) and time.monotonic() < ends_at:
            self._turn(0.1)

    def _turn(self, seconds: float = 1) -> None:
        """Read and write what is ready, or wait. Tells gunicorn that this process is alive."""
        self.notify()
        wasyncore.loop(seconds, use_poll=True, map=self.sockets_by_fd, count=1)

    def _is_serving(self, lingers: bool) -> bool:
        """True while a client waits for an answer, or while any is connected and the process lingers."""
        clients = [client for client in self.sockets_by_fd.values() if isinstance(client, Client)]
        return any(lingers or client.requests or client.total_outbufs_len for client in clients)

    def handle_exit(self, *signal: Any) -> None:
        """Answer SIGTERM. Wakes the loop, which would wait for a second."""
        self.alive = False
        for listener in self.listeners:
            listener.pull_trigger()


worker_class = BufferingWorker


def post_worker_init(worker: Any) -> None:
    """Log the warnings of the checks, once for all workers."""
    if worker.age > 1:
        return
    from app.settings import checks  # importable only in a worker

    with worker.wsgi.app_context():
        checks.log_warnings(processes=worker.cfg.workers, threads=worker.cfg.threads)
