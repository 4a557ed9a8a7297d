"""Encryption at rest: what a message says, and keyed hashes in place of identities and tokens."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ..settings import current


class Unreadable(Exception):
    """A message was encrypted under a SECRET_KEY that this process does not know (yet, or no longer)."""


def encrypt(content: dict[str, Any]) -> str:
    """Encrypt it under the SECRET_KEY."""
    key = current().keys("outbox")[0]
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(json.dumps(content).encode()).decode()


def decrypt(sealed: str | None) -> dict[str, Any]:
    """Decrypt it under any key that is still valid. Raises Unreadable."""
    cipher = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in current().keys("outbox")])
    try:
        content: dict[str, Any] = json.loads(cipher.decrypt(sealed or ""))
    except InvalidToken:
        raise Unreadable("the SECRET_KEY that it was sealed with is not known here") from None
    return content


def keyed_hash(text: str) -> str:
    """Return a keyed hash, stored in place of an identity."""
    return hmac.digest(current().keys("outbox same")[0], text.encode(), "sha256").hex()
