"""What must not rest in the clear: what a message says, and for which identity it was asked."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from .errors import Unreadable
from .settings import current


def seal(content: dict[str, Any]) -> str:
    """So that only the SECRET_KEY reads it."""
    return _sealer().encrypt(json.dumps(content).encode()).decode()


def opened(sealed: str | None) -> dict[str, Any]:
    """What was sealed, under whatever key that is still valid. Raises Unreadable."""
    try:
        content: dict[str, Any] = json.loads(_sealer().decrypt(sealed or ""))
    except InvalidToken:
        raise Unreadable("the SECRET_KEY that it was sealed with is not known here") from None
    return content


def fingerprint(same: str) -> str:
    """What stands for an identity where the identity itself must not rest."""
    return hmac.digest(current().keys("outbox same")[0], same.encode(), "sha256").hex()


def _sealer() -> MultiFernet:
    keys = current().keys("outbox")
    return MultiFernet([Fernet(base64.urlsafe_b64encode(key)) for key in keys])
