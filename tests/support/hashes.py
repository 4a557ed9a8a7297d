"""Argon2's hashes, computed once a run: a test gets a hash that an earlier test made of the same password.

They are real ones, so every process verifies them. Within a test no hash is given twice. A hash takes a core for
30 ms, and most tests need several.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from typing import Any

from argon2 import low_level
from argon2.exceptions import VerifyMismatchError

_hash, _verify = low_level.hash_secret, low_level.verify_secret
_hashes: dict[Any, bytes] = {}  # by password, cost and number
_passwords: dict[bytes, bytes] = {}  # by hash
# The next number of the hashes that this test gets, by password and cost.
_numbers: dict[Any, count[int]] = defaultdict(count)


def hash_secret(*, secret: bytes, salt: bytes, **cost: Any) -> bytes:
    wanted = (secret, *cost.items())
    key = (*wanted, next(_numbers[wanted]))
    if key not in _hashes:
        _hashes[key] = _hash(secret=secret, salt=salt, **cost)
        _passwords[_hashes[key]] = secret
    return _hashes[key]


def verify_secret(hash: bytes, secret: bytes, type: low_level.Type) -> bool:
    if hash not in _passwords:
        return _verify(hash, secret, type)
    if _passwords[hash] != secret:
        raise VerifyMismatchError
    return True


low_level.hash_secret, low_level.verify_secret = hash_secret, verify_secret  # type: ignore[assignment]


def pytest_runtest_setup() -> None:
    _numbers.clear()


def keep() -> None:
    """Give the hashes so far to no other test, because a database that tests copy holds them."""
    _hashes.clear()
