"""Signed tokens, for URLs and cookies."""

import hashlib
from typing import Any, Self

from itsdangerous import Serializer, URLSafeSerializer, URLSafeTimedSerializer
from itsdangerous.encoding import base64_encode

from ..settings import current

SHA_256 = {"digest_method": hashlib.sha256}  # instead of SHA-1, itsdangerous's default (ASVS 11.4.1)


class UncompressedToken(URLSafeSerializer):
    """itsdangerous's, which begins a compressed token with a dot. Web servers refuse paths of dotfiles."""

    @classmethod
    def signed_for(cls, purpose: str, salt: str) -> Self:
        """Return one whose tokens any valid key for a purpose verifies. The newest signs."""
        keys = current().derive_keys(purpose)[::-1]  # itsdangerous signs with the last
        return cls(keys, salt, signer_kwargs=SHA_256)

    def dump_payload(self, obj: Any) -> bytes:
        return base64_encode(Serializer.dump_payload(self, obj))


class TimedToken(UncompressedToken, URLSafeTimedSerializer):
    """The same, with the time at which it was signed."""
