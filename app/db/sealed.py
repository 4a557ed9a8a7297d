"""What must not rest in the clear: what a message says, and for which identity it was asked."""

from __future__ import annotations

import base64
import hmac
import json
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ..settings import current


class Unreadable(Exception):
    """A message was sealed with a SECRET_KEY that this process does not know (yet, or no longer)."""


def encrypt(content: dict[str, Any]) -> str:
    """So that only the SECRET_KEY reads it."""
    return _sealer().encrypt(json.dumps(content).encode()).decode()


def decrypt(sealed: str | None) -> dict[str, Any]:
    """What was sealed, under whatever key that is still valid. Raises Unreadable."""
    try:
        content: dict[str, Any] = json.loads(_sealer().decrypt(sealed or ""))
    except InvalidToken:
        raise Unreadable("the SECRET_KEY that it was sealed with is not known here") from None
    return content


def keyed_hash(same: str) -> str:
    """What stands for an identity where the identity itself must not rest."""
    return hmac.digest(current().keys("outbox same")[0], same.encode(), "sha256").hex()


def _sealer() -> MultiFernet:
    return _of(*current().keys("outbox"))


@lru_cache(maxsize=16)
def _of(*keys: bytes) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])
