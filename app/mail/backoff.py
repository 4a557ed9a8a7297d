"""The pauses between attempts to send a mail: they double, from 10 seconds to an hour."""

from __future__ import annotations

import secrets

FIRST_SECONDS = 10.0
MAX_SECONDS = 3600.0
JITTER = 0.25  # a pause is up to this much longer: retries must not march in step


def backoff(attempts: int) -> float:
    """The seconds between an attempt that failed and the next one."""
    return without_jitter(attempts) * (1 + JITTER * secrets.randbelow(1000) / 1000)


def without_jitter(attempts: int) -> float:
    """The same without the jitter."""
    return float(min(FIRST_SECONDS * 2.0 ** min(attempts - 1, 20), MAX_SECONDS))
