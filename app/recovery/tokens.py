"""A reset link's token: HMAC-SHA256 over the nonce of its message, and what the database keeps of it."""

from __future__ import annotations

import base64
import hmac

from ..settings import current


def derive_tokens(nonce: bytes) -> list[str]:
    """The token of a nonce under each valid key, the newest key first."""
    digests = (hmac.digest(key, nonce, "sha256") for key in current().keys("reset link"))
    return [base64.urlsafe_b64encode(digest).rstrip(b"=").decode() for digest in digests]


def hashes_of(token: str) -> list[str]:
    """What the database keeps of it, under each valid key, the newest first."""
    keys = current().keys("reset link look-up")
    return [hmac.digest(key, token.encode(), "sha256").hex() for key in keys]
