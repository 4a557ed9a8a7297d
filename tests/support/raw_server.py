"""A server for tests of HTTP clients: it reads a request, and sends any bytes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Talk = Callable[[socket.socket], None]


@contextmanager
def raw_server(talk: Talk, requests: list[bytes] | None = None) -> Iterator[str]:
    """Run a server that reads a request, records it, and then talks. Yields host and port."""
    requests, connections = [] if requests is None else requests, list[socket.socket]()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        is_over = threading.Event()

        def serve() -> None:
            while not is_over.is_set():
                with suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connections.append(connection)
                        connection.settimeout(2)
                        requests.append(connection.recv(65_536))
                        if not is_over.is_set():
                            talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            is_over.set()
            for connection in connections:
                with suppress(OSError):  # most are closed
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join()


def send(*parts: str) -> Talk:
    return lambda connection: connection.sendall("".join(parts).encode("latin-1"))


def send_forever(start: bytes, repeated: bytes, pause: float = 0) -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(repeated)
            time.sleep(pause)

    return talk


def stay_silent(connection: socket.socket) -> None:
    connection.recv(1)
