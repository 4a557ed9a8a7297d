"""Processes of ours that start at once: forked from one that has imported everything and done nothing else.

Importing takes a second of a core, and the tests start hundreds. What runs is the same, under the same
environment; what the imports do to a start is seen where a process starts cold: `test_journey`,
`test_settings`, `test_start`, and the restarts of `test_operations`.
"""

from __future__ import annotations

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
# What is read only when something starts. Other variables change Python itself, or are read by an import.
READ_LATE = ("PATH", "COVERAGE", "FLASK_", "RECOVERY_")


def can_start(words: tuple[str, ...], environ: dict[str, str]) -> bool:
    known = words[0] == "manage.py" or words[:2] == ("-m", "gunicorn")
    return sys.platform == "linux" and known and all(name.startswith(READ_LATE) for name in environ)


class Running:
    """What subprocess.Popen would be for it."""

    def __init__(self, words: tuple[str, ...], ours: socket.socket) -> None:
        self.args, self.ours = words, ours
        self.pid = int(self._hears(30))
        self.returncode: int | None = None

    def _hears(self, seconds: float | None) -> bytes:
        self.ours.settimeout(seconds)
        return self.ours.recv(20)

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                self.returncode = int(self._hears(timeout))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self.ours.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    words: tuple[str, ...],
    environ: dict[str, str],
    stdout: IO[Any] | None,
    stderr: IO[Any] | int,
    is_leader: bool = False,
    listening: socket.socket | None = None,
) -> Running:
    """`python` with these words; as the leader of a group of its own, so that all it starts can be killed;
    with a socket that systemd would have opened for it. Only where `can_start`.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    descriptors = [theirs.fileno(), stdout.fileno() if stdout else 1]
    descriptors.append(stderr if isinstance(stderr, int) else stderr.fileno())
    if listening:
        descriptors.append(listening.fileno())
    with theirs:
        request = json.dumps([words, environ, is_leader]).encode()
        socket.send_fds(_forker(), [request], descriptors)
    return Running(words, ours)


@cache
def _forker() -> socket.socket:
    """Where to ask for processes. It is there until the tests end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environ = {name: text for name, text in os.environ.items() if name == "PATH"}
    command = [sys.executable, str(Path(__file__)), str(theirs.fileno())]
    with theirs:
        forker = subprocess.Popen(
            command, cwd=ROOT, env=environ, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )

    def end() -> None:
        ours.close()
        forker.wait(timeout=20)

    atexit.register(end)
    return ours


# --- In the process that forks ---


def fork_as_asked(asks: socket.socket) -> list[str] | None:
    """Returns in each new process, with what it is to run; and None when nobody can ask any more."""
    while True:
        request, descriptors, *_ = socket.recv_fds(asks, REQUEST_BYTES_MAX, 4)
        _reap()
        if not request:
            return None
        if os.fork() == 0:
            asks.close()
            return _new_process(descriptors, *json.loads(request))
        for descriptor in descriptors:
            os.close(descriptor)


def _reap() -> None:
    """Those who have waited for a process, below: not ignored, so that what it took is counted as ours."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _new_process(
    descriptors: list[int], words: list[str], environ: dict[str, str], is_leader: bool
) -> list[str]:
    teller, stdout, stderr, *listening = descriptors
    if child := os.fork():
        _, status = os.waitpid(child, 0)
        os.write(teller, str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    if is_leader:
        os.setsid()
    os.environ.clear()
    os.environ.update(environ)
    os.write(teller, str(os.getpid()).encode())
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    if listening:
        os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
        listening = [os.dup(listening[0])]  # 3 may be another of ours
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

    sys.path[0] = str(ROOT)
    import gunicorn.arbiter
    import gunicorn.workers.gthread  # noqa: F401
    from gunicorn.app import wsgiapp

    import app.pages.metrics  # as the first app does
    import app.pages.template_checks
    import app.pages.translation_checks
    import app.pages.views
    import app.security  # noqa: F401
    import manage  # and with it the commands

    gc.freeze()  # or the first collection of each would copy all of it
    if (words := fork_as_asked(socket.socket(fileno=int(sys.argv[1])))) is not None:
        run(words)
