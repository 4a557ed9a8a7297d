"""Hashing passwords: at most one hash a core at a time, and none for nothing.

A hash takes a core for some 35 ms and 19 MiB by default. Without a gate a flood of sign-ins takes all memory.
"""

from __future__ import annotations

import base64
import ctypes
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from flask import Flask, current_app, g, has_app_context
from flask_security.utils import verify_password
from passlib.context import CryptContext

from .errors import Busy
from .settings import Settings

WAIT_SECONDS = 10  # whoever waits longer for a place is asked to come back

_SALT_BYTES, _DIGEST_BYTES = 16, 32  # what argon2 makes by default

_M_MMAP_THRESHOLD = -3  # malloc.h
_MAPPED_BYTES_MIN = 1_048_576  # less than any hash takes


class Gate:
    """Stands before Flask-Security's passlib context. Everything else of the context passes."""

    def __init__(self, context: CryptContext, places: int) -> None:
        self._context, self._places = context, threading.BoundedSemaphore(places)

    def hash(self, secret: str | bytes, **options: Any) -> str:
        """As passlib's. Raises Busy; and what `before_hashing` raises."""
        with self._place():
            return str(self._context.hash(secret, **options))

    def verify(self, secret: str | bytes, hash: str | bytes, **options: Any) -> bool:  # as passlib's
        """As passlib's. Raises Busy; and what `before_hashing` raises."""
        with self._place():
            return bool(self._context.verify(secret, hash, **options))

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
    _give_memory_back()
    security = app.extensions["security"]
    # Where it is known, the cores that this process may use; a container often has fewer than the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    places = settings.RECOVERY_HASHES_AT_ONCE or cores
    security.pwd_context = Gate(security.pwd_context, places)
    app.extensions["dummy_hash"] = of_nobody(settings.SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS)


def _give_memory_back() -> None:
    """glibc would keep what a hash took, for each thread that has ever hashed: 150 MiB with eight. Mapped, it
    goes back at once, for some 8 ms more a hash. Other C libraries have no such switch.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)


def verify_nothing(password: str) -> None:
    """Cost what verifying a real password costs, for accounts that have none or do not exist."""
    verify_password(password, current_app.extensions["dummy_hash"])


def of_nobody(options: dict[str, Any]) -> str:
    """A hash with these parameters that no password has: as dear to verify as a real one."""
    salt, digest = (_encoded(secrets.token_bytes(size)) for size in (_SALT_BYTES, _DIGEST_BYTES))
    memory, rounds, lanes = (options[f"argon2__{name}"] for name in ("memory_cost", "rounds", "parallelism"))
    return f"$argon2id$v=19$m={memory},t={rounds},p={lanes}${salt}${digest}"


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).rstrip(b"=").decode()
