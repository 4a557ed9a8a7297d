"""Flask-Mailman and its backend: the relay, or a folder on this machine (RECOVERY_INBOX)."""

import time
from pathlib import Path

from flask import Flask, current_app
from flask_mailman import EmailMessage, Mail
from flask_mailman.backends.base import BaseEmailBackend

from ..settings.schema import Settings

mailman = Mail()


class Inbox(BaseEmailBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """A backend that writes each mail to a file of its own, unlike Flask-Mailman's file backend."""

    connection = None

    def send_messages(self, email_messages: list[EmailMessage]) -> int:
        """Write the mails, and return their number. A file appears when it is complete."""
        folder = inbox_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            draft = folder / f"{time.time_ns()}.part"
            draft.write_bytes(message.message().as_bytes())
            draft.rename(draft.with_suffix(".eml"))
        return len(email_messages)


def inbox_folder() -> Path:
    """Return the folder of the mails."""
    return Path(current_app.instance_path) / "inbox"


def init_app(app: Flask, settings: Settings) -> None:
    # Flask-Mailman's own SMTP backend accepts any certificate on STARTTLS.
    app.config["MAIL_BACKEND"] = Inbox if settings.RECOVERY_INBOX else "app.mail.smtp"
    mailman.init_app(app)
