"""Exceptions that stop the delivery of a message."""

from __future__ import annotations


class Undeliverable(Exception):
    """Raised for a message that must not be sent. Only an admin reads its text, never the requester."""


class MailHeld(Exception):
    """Raised while no mail can go out. The attempt does not count, because no message is at fault."""

    pause: float  # seconds until the worker connects again


class RelayAway(MailHeld):
    """Raised if the relay is down, busy, or closes the connection before the first mail."""

    pause = 5


class RelayMisconfigured(MailHeld):
    """Raised if a setting must be corrected first. The text starts with the setting's name."""

    pause = 30
