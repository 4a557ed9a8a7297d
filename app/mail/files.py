"""A mail backend that keeps each mail as a file on this machine instead of sending it (RECOVERY_INBOX).

Flask-Mailman's own file backend does not serve, because it appends all mails of a connection to one log.
"""

from __future__ import annotations

import time
from pathlib import Path

from flask import current_app
from flask_mailman.backends.base import BaseEmailBackend

from .composing import Mail


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Writes to the folder `inbox` of the instance folder, a file a mail."""

    connection = None

    def send_messages(self, email_messages: list[Mail]) -> int:
        """Return the number of mails written. A file is never seen half written."""
        folder = inbox_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            draft = folder / f"{time.time_ns()}.part"
            draft.write_bytes(message.message().as_bytes())
            draft.rename(draft.with_suffix(".eml"))
        return len(email_messages)


def inbox_folder() -> Path:
    """Return the folder of the kept mails."""
    return Path(current_app.instance_path) / "inbox"
