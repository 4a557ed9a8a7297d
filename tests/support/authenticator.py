"""A passkey authenticator in software (WebAuthn, attestation "none")."""

from __future__ import annotations

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from urllib.parse import urlsplit

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, HAS_CREDENTIAL = 0x01, 0x04, 0x40  # flags (WebAuthn §6.1)


def create_credential(challenge: str, origin: str) -> str:
    """Return the JSON that a browser sends after navigator.credentials.create()."""
    number = secrets.token_bytes(32)
    key = ec.generate_private_key(ec.SECP256R1()).public_key().public_numbers()
    cose_key = {1: 2, 3: -7, -1: 1, -2: key.x.to_bytes(32, "big"), -3: key.y.to_bytes(32, "big")}  # ES256
    relying_party = hashlib.sha256((urlsplit(origin).hostname or "").encode()).digest()
    authenticator = (
        relying_party
        + bytes([PRESENT | VERIFIED | HAS_CREDENTIAL])
        + bytes(4)  # the counter
        + bytes(16)  # the model: unknown
        + len(number).to_bytes(2, "big")
        + number
        + cbor2.dumps(cose_key)
    )
    client = {"type": "webauthn.create", "challenge": challenge, "origin": origin}
    attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticator})
    response = {
        "clientDataJSON": _base64(json.dumps(client).encode()),
        "attestationObject": _base64(attestation),
        "transports": ["usb"],
    }
    name = _base64(number)
    return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
