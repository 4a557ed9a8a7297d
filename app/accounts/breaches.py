"""Whether a password is known from a breach: the range API of Have I Been Pwned, or a mirror of it.

Five characters of the password's SHA-1 leave this machine, and answers are padded to one size. Nobody waits
longer than WAIT_SECONDS, for a resolver neither; after a failure nobody asks for BREAKER_SECONDS.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from ..settings import current

log = logging.getLogger(__name__)


class BreachesUnknown(Exception):
    """The service that knows them does not answer, or was not asked because it did not before."""


WAIT_SECONDS = 2
BREAKER_SECONDS = 60
ANSWER_BYTES_MAX = 1_000_000  # a thousand lines are usual, of 40 bytes each


class _Breaker:
    """Closed while the service answers."""

    open_until = 0.0


def times_seen(password: str) -> int:
    """In how many breaches it was. Raises BreachesUnknown when that can not be found out now."""
    if time.monotonic() < _Breaker.open_until:
        raise BreachesUnknown
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).hexdigest().upper()
    url = f"{current().RECOVERY_BREACHES_URL.rstrip('/')}/range/{digest[:5]}"
    try:
        # In a thread: a resolver that hangs knows no timeout.
        lines = _threads().submit(ask, url).result(timeout=WAIT_SECONDS)
    except (OSError, HTTPException, ValueError) as error:
        _Breaker.open_until = time.monotonic() + BREAKER_SECONDS
        why = error.reason if isinstance(error, URLError) else error
        log.warning(
            "known breaches (RECOVERY_BREACHES_URL) can not be asked for %s s: %s", BREAKER_SECONDS, why
        )
        raise BreachesUnknown from error
    return lines.get(digest[5:], 0)


class _StayHere(HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # then it is an HTTPError


_LINE = re.compile(r"([0-9A-Fa-f]{35}):(\d+)")


def ask(url: str) -> dict[str, int]:
    """How often by the rest of the digest. Raises for whatever is not a whole answer."""
    request = Request(url, headers={"Add-Padding": "true", "User-Agent": "Sparekey"})  # noqa: S310  # https, or this machine, by its kind
    deadline, text = time.monotonic() + WAIT_SECONDS, b""
    with build_opener(_StayHere).open(request, timeout=WAIT_SECONDS) as answer:
        while piece := answer.read1(65_536):
            text += piece
            if time.monotonic() > deadline or len(text) > ANSWER_BYTES_MAX:
                raise TimeoutError("too slow, or too long")
        if answer.length:
            raise ValueError("cut off")
    found = [_LINE.fullmatch(line) for line in text.decode("ascii").split()]
    if not found or not all(found):
        raise ValueError("no list of digests")
    return {line[1].upper(): int(line[2]) for line in found if line}


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="breaches")
