"""Encryption at rest for the content of messages, and keyed hashes in place of identities and tokens."""

import base64
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from ..settings import current


class DecryptionError(Exception):
    """The content was encrypted with a SECRET_KEY that this process does not have."""


def encrypt(content: dict[str, Any]) -> str:
    """Encrypt JSON content with the newest SECRET_KEY."""
    key = current().derive_keys("outbox")[0]
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(json.dumps(content).encode()).decode()


def decrypt(encrypted: str | None) -> dict[str, Any]:
    """Decrypt content with any valid SECRET_KEY. Raises DecryptionError."""
    cipher = MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in current().derive_keys("outbox")])
    try:
        content: dict[str, Any] = json.loads(cipher.decrypt(encrypted or ""))
    except InvalidToken:
        raise DecryptionError("it was encrypted with a SECRET_KEY that is not known here") from None
    return content


def keyed_hash(text: str) -> str:
    """Return a keyed hash in hex, to store in place of an identity or token."""
    return keyed_hashes(text, "outbox same")[0]


def keyed_hashes(text: str, purpose: str) -> list[str]:
    """Return the hash in hex under each valid SECRET_KEY, the newest first."""
    keys = current().derive_keys(purpose)
    return [hmac.digest(key, text.encode("utf-8", "replace"), "sha256").hex() for key in keys]
