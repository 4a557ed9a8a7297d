"""Refused requests, as exceptions with the code that JSON clients and redirects get.

Each feature adds its own: LinkError and its kinds live in recovery/link.py.
"""

from __future__ import annotations

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l


class RequestError(Exception):
    """A request that is refused; `code` is for programs, `title` and `message` are for the reader."""

    status = 400
    code = "invalid_request"
    title = _l("That did not work")
    message = _l("The request could not be understood.")
    retry_after: int | None = None  # seconds

    def __init__(self, message: str | None = None, *, field: str | None = None) -> None:
        self.field = field
        self.message = message or self.message
        super().__init__(self.message)


class Busy(RequestError):
    """More passwords to hash than this machine can."""

    status = 503
    code = "unavailable"
    title = _l("Too much is going on right now")
    message = _l("Nothing was changed. Please try again in a minute.")
    retry_after = 30


class NoMail(RequestError):
    """A mail is asked for while MAIL_SERVER is empty. The message names the support contact."""

    status = 503
    code = "mail_not_configured"
    title = _l("Please ask for help")

    def __init__(self, contact: str) -> None:
        message = _("This site sends no mail. Please ask %(contact)s for a link to a new password.")
        super().__init__(message % {"contact": contact})


class InvalidRequest(RequestError):
    """Malformed input: wrong type, missing, repeated or too long."""


class OriginNotAllowed(RequestError):
    status = 403
    code = "origin_not_allowed"
    message = _l("Requests from that origin are not allowed.")
