"""Exceptions that stop the delivery of a message."""

from __future__ import annotations


class Undeliverable(Exception):
    """A message that must not be sent. Only an admin reads the text, never the requester."""


class MailHeld(Exception):
    """A failure that stops all mail. The attempt does not count, because no message is at fault."""

    pause: float  # seconds until the worker connects again


class RelayAway(MailHeld):
    """A relay that is down, busy, or closes the connection before the first mail."""

    pause = 5


class RelayMisconfigured(MailHeld):
    """A setting that must be corrected before mail can go out. The text starts with its name."""

    pause = 30
