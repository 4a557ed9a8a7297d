"""Hashing passwords: at most one hash a core at a time, and none for nothing.

A hash takes a core for some 30 ms and 19 MiB by default. Without a gate a flood of sign-ins takes all memory.
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, NamedTuple

from flask import Flask, current_app, g, has_app_context
from flask_security.utils import verify_password
from passlib.context import CryptContext

from ..settings.schema import Settings
from ..web.errors import Busy

WAIT_SECONDS = 10  # whoever waits longer for a place is asked to come back
_SALT_BYTES, _DIGEST_BYTES = 16, 32  # what argon2 makes by default


class Begun(NamedTuple):
    """A hash under way."""

    secret: bytes
    result: Callable[[], str]


class Gate:
    """Stands before Flask-Security's passlib context. Everything else of the context passes.

    It hashes in threads of its own: what a thread's first hash takes, glibc keeps for that thread.
    """

    def __init__(self, context: CryptContext, places: int) -> None:
        self._context, self._places = context, threading.BoundedSemaphore(places)
        self._threads = ThreadPoolExecutor(places, "hash")

    def hash(self, secret: str | bytes, **options: Any) -> str:
        """As passlib's. Raises Busy; and what `before_hashing` raises."""
        begun: Begun | None = g.pop("begun_hash", None) if has_app_context() else None
        if begun and begun.secret == _as_bytes(secret) and not options:
            return begun.result()
        with self._place():
            return str(self._submit(self._context.hash, secret, **options).result())

    def verify(self, secret: str | bytes, hash: str | bytes, **options: Any) -> bool:  # as passlib's
        """As passlib's. Raises Busy; and what `before_hashing` raises."""
        with self._place():
            if has_app_context() and g.pop("hash_next", False):
                self._begin(secret)
            return bool(self._submit(self._context.verify, secret, hash, **options).result())

    def _submit(self, work: Callable[..., Any], *args: Any, **options: Any) -> Future[Any]:
        """With this thread's context: a scheme may ask for a setting."""
        return self._threads.submit(copy_context().run, work, *args, **options)

    def _begin(self, secret: str | bytes) -> None:
        """Hash it beside its verification, if there is a place: who waits for both waits for one."""
        if self._places.acquire(blocking=False):
            future = self._submit(self._context.hash, secret)
            future.add_done_callback(lambda _: self._places.release())
            g.begun_hash = Begun(_as_bytes(secret), future.result)

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise Busy
        try:
            # Meanwhile somebody else may have made this hash useless: losers of a race do not hash.
            if has_app_context() and (look_again := g.get("before_hashing")):
                look_again()
            yield
        finally:
            self._places.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def init_app(app: Flask, settings: Settings) -> None:
    """After Flask-Security's own."""
    security = app.extensions["security"]
    # Where it is known, the cores that this process may use; a container often has fewer than the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    places = settings.RECOVERY_HASHES_AT_ONCE or cores
    security.pwd_context = Gate(security.pwd_context, places)
    app.extensions["dummy_hash"] = of_nobody(settings.SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS)


def verify_and_hash(password: str, stored: str) -> bool:
    """As Flask-Security's verify_password; the password will be hashed next, and if a core is free that has
    begun already."""
    g.hash_next = True
    try:
        return bool(verify_password(password, stored))
    finally:
        g.pop("hash_next", None)


def verify_nothing(password: str) -> None:
    """Cost what verifying a real password costs, for accounts that have none or do not exist."""
    verify_password(password, current_app.extensions["dummy_hash"])


def of_nobody(options: dict[str, Any]) -> str:
    """A hash with these parameters that no password has: as dear to verify as a real one."""
    salt, digest = (_encoded(secrets.token_bytes(size)) for size in (_SALT_BYTES, _DIGEST_BYTES))
    memory, rounds, lanes = (options[f"argon2__{name}"] for name in ("memory_cost", "rounds", "parallelism"))
    return f"$argon2id$v=19$m={memory},t={rounds},p={lanes}${salt}${digest}"


def _as_bytes(secret: str | bytes) -> bytes:
    return secret.encode() if isinstance(secret, str) else secret


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()
