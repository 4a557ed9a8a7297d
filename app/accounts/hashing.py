"""Hashing passwords: at most one hash a core at a time, and none for nothing.

A hash takes a core for some 30 ms and 19 MiB by default. Without a gate a flood of sign-ins takes all memory.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from flask import Flask, current_app
from flask_security.proxies import _security
from flask_security.utils import verify_password
from passlib.context import CryptContext

from ..settings.schema import Settings
from ..web.errors import Busy

WAIT_SECONDS = 10  # whoever waits longer for a place is asked to come back


class Gate:
    """Stands before Flask-Security's passlib context. Everything else of the context passes.

    It hashes in threads of its own: what a thread's first hash takes, glibc keeps for that thread.
    """

    def __init__(self, context: CryptContext, places: int) -> None:
        self._context, self._threads = context, ThreadPoolExecutor(places, "hash")

    def hash(self, secret: str | bytes, **options: Any) -> str:
        """As passlib's. Raises Busy."""
        return str(self._run(self._context.hash, secret, **options))

    def verify(self, secret: str | bytes, hash: str | bytes, **options: Any) -> bool:  # as passlib's
        """As passlib's. Raises Busy."""
        return bool(self._run(self._context.verify, secret, hash, **options))

    def _run(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        # With this thread's context, because a scheme may ask for a setting.
        result = self._threads.submit(copy_context().run, work, *args, **options)
        try:
            return result.result(WAIT_SECONDS)
        except TimeoutError:
            if result.cancel():  # it still waits for a place
                raise Busy from None
            return result.result()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def init_app(app: Flask, settings: Settings) -> None:
    """After Flask-Security's own."""
    security = app.extensions["security"]
    # Where it is known, the cores that this process may use; a container often has fewer than the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    security.pwd_context = Gate(security.pwd_context, settings.RECOVERY_HASHES_AT_ONCE or cores)
    with app.app_context():
        app.extensions["dummy_hash"] = unusable_hash()


def password_matches(password: str, hashed: str | None) -> bool:
    """True if the password has this hash. Costs one verification, even without a hash that can be read."""
    dummy = current_app.extensions["dummy_hash"]
    try:
        return bool(verify_password(password, hashed or dummy))
    except (ValueError, RuntimeError):  # of no scheme that is known
        return bool(verify_password(password, dummy))


def unusable_hash() -> str:
    """Return a hash that no password has, as dear to verify as a real one."""
    scheme = _security.pwd_context.handler(current_app.config["SECURITY_PASSWORD_HASH"])
    return str(scheme(use_defaults=True, checksum=secrets.token_bytes(scheme.checksum_size)).to_string())
