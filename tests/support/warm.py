"""Processes that start at once, because they are forked from one that has imported everything and made an app.

The imports take a second of a core, and the tests start hundreds of processes. Tests of the imports start cold.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
REQUEST_BYTES_MAX = 200_000
# Variables that are read at the start of a command. Others change Python itself, or are read by an import.
READ_LATE = ("PATH", "COVERAGE", "FLASK_", "RECOVERY_")


def can_start(words: tuple[str, ...], environ: dict[str, str]) -> bool:
    known = words[0] == "manage.py" or words[:2] == ("-m", "gunicorn")
    return sys.platform == "linux" and known and all(name.startswith(READ_LATE) for name in environ)


class Running:
    """A started process, with the interface of subprocess.Popen."""

    def __init__(self, words: tuple[str, ...], connection: socket.socket) -> None:
        self.args, self.connection = words, connection
        self.pid = int(self._receive(30))
        self.returncode: int | None = None

    def _receive(self, seconds: float | None) -> bytes:
        self.connection.settimeout(seconds)
        return self.connection.recv(20)

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = int(self._receive(timeout))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self.connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    words: tuple[str, ...], environ: dict[str, str], stdout: IO[Any] | None, stderr: IO[Any] | int,
    is_leader: bool = False, listening: socket.socket | None = None,
) -> Running:  # fmt: skip
    """Run `python` with these words, where `can_start`.

    As a leader of its own process group, all that it starts can be killed with it. `listening` is a socket that
    systemd would have opened.
    """
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptors = [far.fileno(), stdout.fileno() if stdout else 1]
    descriptors.append(stderr if isinstance(stderr, int) else stderr.fileno())
    if listening:
        descriptors.append(listening.fileno())
    with far:
        request = json.dumps([words, environ, is_leader]).encode()
        socket.send_fds(_forker(), [request], descriptors)
    return Running(words, near)


@cache
def _forker() -> socket.socket:
    """Start the process that forks, and return the socket for requests. It ends with the tests."""
    from .site import PUBLIC_URL, SECRETS

    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = {"PATH": os.environ["PATH"], **SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL}
    command = [sys.executable, str(Path(__file__)), str(far.fileno())]
    options: Any = {"cwd": ROOT, "env": environ, "stdin": subprocess.DEVNULL}
    with far:
        forker = subprocess.Popen(command, pass_fds=[far.fileno()], **options)

    def end() -> None:
        near.close()
        forker.wait(timeout=20)

    atexit.register(end)
    return near


# --- In the process that forks ---


def fork_on_request(requests: socket.socket) -> list[str] | None:
    """Return the command in each new process, and None when the socket is closed."""
    while True:
        request, descriptors, *_ = socket.recv_fds(requests, REQUEST_BYTES_MAX, 4)
        _reap()
        if not request:
            return None
        if os.fork() == 0:
            requests.close()
            return _new_process(descriptors, *json.loads(request))
        for descriptor in descriptors:
            os.close(descriptor)


def _reap() -> None:
    """Reap the processes that waited for a child. Not by ignoring SIGCHLD, which would lose their CPU time."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _new_process(
    descriptors: list[int], words: list[str], environ: dict[str, str], is_leader: bool
) -> list[str]:
    reporter, stdout, stderr, *listening = descriptors
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os.write(reporter, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    if is_leader:
        os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    os.write(reporter, str(os.getpid()).encode())
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if listening:
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        listening = [os.dup(listening[0])]  # 3 may be another descriptor
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor in listening:
        os.dup2(descriptor, 3)
        os.close(descriptor)
    return words


def run(words: list[str]) -> None:
    if any(name.startswith("COVERAGE") for name in os.environ):
        import coverage

        coverage.process_startup()
    if words[0] == "manage.py":
        sys.argv = words
        manage.cli()
    else:
        sys.argv = words[1:]
        wsgiapp.run(prog="gunicorn")


if __name__ == "__main__":
    import gc
    import logging

    sys.path[0] = str(ROOT)
    import gunicorn.arbiter
    import gunicorn.workers.gthread  # noqa: F401
    from gunicorn.app import wsgiapp

    import manage  # and with it the commands
    from app import create_app

    create_app()
    logging.root.handlers.clear()  # of this app
    gc.freeze()  # or the first collection of each would copy all of it
    if (words := fork_on_request(socket.socket(fileno=int(sys.argv[1])))) is not None:
        run(words)
