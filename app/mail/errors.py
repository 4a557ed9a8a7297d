"""Reasons why a message is not delivered."""

from __future__ import annotations


class Undeliverable(Exception):
    """A message that must not be sent. The admin reads `reason`; the person who asked never does."""

    def __init__(self, reason: str, user_id: int | None = None) -> None:
        self.reason, self.user_id = reason, user_id
        super().__init__(reason)


class MailHeld(Exception):
    """No mail can go out now. No attempt counts, because it is no message's fault."""

    pause: float  # seconds until a worker looks again


class RelayAway(MailHeld):
    """The relay cannot be reached: it is down, busy, or hangs up before it has heard of a mail."""

    pause = 5


class RelayMisconfigured(MailHeld):
    """No mail can be sent before a setting is corrected. The text starts with the setting's name."""

    pause = 30
