"""Hashing passwords: at most one hash a core at a time, and none for nothing.

A hash takes a core for some 30 ms and 19 MiB by default. Without a gate a flood of sign-ins takes all memory.
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from flask import Flask, current_app
from flask_security.utils import verify_password
from passlib.context import CryptContext

from ..settings.schema import Settings
from ..web.errors import Busy

WAIT_SECONDS = 10  # whoever waits longer for a place is asked to come back
_SALT_BYTES, _DIGEST_BYTES = 16, 32  # what argon2 makes by default


class Gate:
    """Stands before Flask-Security's passlib context. Everything else of the context passes.

    It hashes in threads of its own: what a thread's first hash takes, glibc keeps for that thread.
    """

    def __init__(self, context: CryptContext, places: int) -> None:
        self._context, self._places = context, threading.BoundedSemaphore(places)
        self._threads = ThreadPoolExecutor(places, "hash")

    def hash(self, secret: str | bytes, **options: Any) -> str:
        """As passlib's. Raises Busy."""
        return str(self._run(self._context.hash, secret, **options))

    def verify(self, secret: str | bytes, hash: str | bytes, **options: Any) -> bool:  # as passlib's
        """As passlib's. Raises Busy."""
        return bool(self._run(self._context.verify, secret, hash, **options))

    def _run(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if not self._places.acquire(timeout=WAIT_SECONDS):
            raise Busy
        try:
            # With this thread's context, because a scheme may ask for a setting.
            return self._threads.submit(copy_context().run, work, *args, **options).result()
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
