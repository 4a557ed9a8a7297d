"""The pages where somebody who is not known asks for a mail. Each only notes that it was asked for; the
worker finds out for whom, and whether there is anybody.
"""

from __future__ import annotations

from typing import NamedTuple

from flask import g, has_request_context

from .identities import known_as


class Asking(NamedTuple):
    """A page where somebody who is not known asks for a mail: its mail, its template and form."""

    mail: str
    template: str
    form: str
    said: str | None = None  # Flask-Security's message on the page that follows; None: a page of its own


# By endpoint.
ASKINGS = {
    "security.forgot_password": Asking(
        "reset_instructions", "security/forgot_password.html", "forgot_password_form"
    ),
    "security.send_confirmation": Asking(
        "confirmation_instructions",
        "security/send_confirmation.html",
        "send_confirmation_form",
        "CONFIRMATION_REQUEST",
    ),
    "security.recover_username": Asking(
        "username_recovery",
        "security/recover_username.html",
        "username_recovery_form",
        "USERNAME_RECOVERY_REQUEST",
    ),
}


def same_as(mail: str, identity: str) -> str:
    """What is asked for, in one text: whoever asks for the same at once adds no mail."""
    return f"{mail} {form_of(identity)}"


def form_of(typed: str) -> str:
    """What is counted, and compared, of what was typed; worked out once in a request, which asks twice."""
    forms: dict[str, str] = g.setdefault("forms_of_typed", {}) if has_request_context() else {}
    if typed not in forms:
        # What is of no kind stands apart: typed as a known one is written here, it would pass for that.
        forms[typed] = str(known_as(typed) or f"? {typed.casefold()}")
    return forms[typed]
