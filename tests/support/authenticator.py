"""A passkey authenticator in software (WebAuthn, attestation "none")."""

import hashlib
import json
import secrets
from base64 import urlsafe_b64encode
from urllib.parse import urlsplit

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, HAS_CREDENTIAL = 0x01, 0x04, 0x40  # flags (WebAuthn §6.1)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def cose_key(private: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key as a server stores it."""
    key = private.public_key().public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (key.x, key.y))
    return cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})  # ES256


def use_credential(number: bytes, key: ec.EllipticCurvePrivateKey, challenge: str, origin: str) -> str:
    """Return the JSON that a browser sends after navigator.credentials.get()."""
    authenticator = _relying_party(origin) + bytes([PRESENT]) + bytes(4)
    client = json.dumps({"type": "webauthn.get", "challenge": challenge, "origin": origin}).encode()
    signed = authenticator + hashlib.sha256(client).digest()
    response = {
        "clientDataJSON": _base64(client),
        "authenticatorData": _base64(authenticator),
        "signature": _base64(key.sign(signed, ec.ECDSA(hashes.SHA256()))),
    }
    name = _base64(number)
    return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def create_credential(challenge: str, origin: str) -> str:
    """Return the JSON that a browser sends after navigator.credentials.create()."""
    number = secrets.token_bytes(32)
    counter, model = bytes(4), bytes(16)
    flags = bytes([PRESENT | VERIFIED | HAS_CREDENTIAL])
    credential = len(number).to_bytes(2, "big") + number + cose_key(new_key())
    authenticator = _relying_party(origin) + flags + counter + model + credential
    client = {"type": "webauthn.create", "challenge": challenge, "origin": origin}
    attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticator})
    response = {
        "clientDataJSON": _base64(json.dumps(client).encode()),
        "attestationObject": _base64(attestation),
        "transports": ["usb"],
    }
    name = _base64(number)
    return json.dumps({"id": name, "rawId": name, "type": "public-key", "response": response})


def _relying_party(origin: str) -> bytes:
    return hashlib.sha256((urlsplit(origin).hostname or "").encode()).digest()


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
