"""Password hashing with a concurrency limit, and verification that costs the same for every account.

By default a hash takes 19 MiB, and a core for some 30 ms. Unlimited, a flood of sign-ins would take all
memory.
"""

import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import BoundedSemaphore
from typing import Any

from flask import Flask, current_app
from flask_security.proxies import _security
from flask_security.utils import hash_password, verify_password
from passlib.context import CryptContext

from ..settings import current
from ..settings.advice import THREADS_MIN
from ..settings.schema import Settings
from ..web.errors import Busy
from . import foreign_hashes
from .imported_hashes import STOCK, mark, unmark

WAIT_SECONDS = 10  # in the queue, before a request is answered with Busy
WAITING_MAX = THREADS_MIN - 16  # requests, because each holds a thread, and others need one, too


class HashQueue:
    """Flask-Security's passlib context, with at most so many hashes at a time.

    They run in threads of their own, because glibc keeps the memory of a hash for the thread that made it.
    """

    def __init__(self, context: CryptContext, threads: int) -> None:
        self._context, self._threads = context, ThreadPoolExecutor(threads, "hash")
        self._places = BoundedSemaphore(WAITING_MAX)

    def hash(self, secret: str | bytes, **options: Any) -> str:
        """Return a hash. Raises Busy."""
        return str(self.run(self._context.hash, secret, **options))

    def verify(self, secret: str | bytes, hash: str | bytes, **options: Any) -> bool:
        """True if the secret has this hash. Raises Busy."""
        return bool(self.run(self._context.verify, secret, hash, **options))

    def run(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return the result of work that hashes. Raises Busy."""
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            # With this thread's context, because a scheme may read a setting.
            future = self._threads.submit(copy_context().run, work, *args, **options)
            return future.result(WAIT_SECONDS)
        except TimeoutError:
            if future.cancel():  # it has not begun
                raise Busy from None
            return future.result()
        finally:
            self._places.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def init_app(app: Flask, settings: Settings) -> None:
    """Limit hashing. Comes after Flask-Security's own init_app."""
    security = app.extensions["security"]
    # The cores that this process may use, because a container often has fewer than its machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    security.pwd_context = HashQueue(security.pwd_context, settings.RECOVERY_HASHES_AT_ONCE or cores)


def password_matches(password: str, hashed: str | None) -> bool:
    """True if the normalized password has this hash. Costs one verification even without a readable hash."""
    dummy = unusable_hash()  # for every account, so that its time tells nothing
    try:
        return bool(verify_password(password, hashed or dummy))
    except (ValueError, RuntimeError, TypeError):  # the hash is of no known scheme, or damaged
        return bool(verify_password(password, dummy))


def new_hash(password: str, replaced: str | None) -> str:
    """Return the hash of a normalized password, as accounts store it in place of another. Raises Busy."""
    if not (accounts := current().RECOVERY_ACCOUNTS):
        return str(hash_password(password))
    made = _security.pwd_context.run(foreign_hashes.make, password, unmark(replaced), accounts.hash)
    return mark(made, is_stock=accounts.hash == STOCK)


def unusable_hash(replaced: str | None = None) -> str:
    """Return a hash that no password has, with the cost of a real one."""
    if replaced and current().RECOVERY_ACCOUNTS:
        return new_hash(secrets.token_urlsafe(32), replaced)
    scheme = _security.pwd_context.handler(current_app.config["SECURITY_PASSWORD_HASH"])
    return str(scheme(use_defaults=True, checksum=secrets.token_bytes(scheme.checksum_size)).to_string())
