"""The errors of a reset link that cannot be used, each with its code for programs."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l

from ..web import clients
from ..web.errors import RequestError


class LinkError(RequestError):
    """A reset link that cannot be used, with its account for the audit trail."""

    title = _l("This link does not work")

    def __init__(
        self, message: str | None = None, *, user_id: int | None = None, client: str = clients.DEFAULT
    ) -> None:
        super().__init__(message)
        self.user_id, self.client = user_id, client


class LinkInvalid(LinkError):
    code = "link_invalid"
    message = _l(
        "This link is incomplete or was not made here. Copy it whole from the mail, or ask for a new one."
    )


class LinkExpired(LinkError):
    code = "link_expired"
    title = _l("This link has expired")
    message = _l("Links only work for a short time, to keep your account safe. Ask for a new one.")


class LinkUsed(LinkError):
    code = "link_used"
    title = _l("This link was already used")
    message = _l("A link works once. If you still need to change your password, ask for a new one.")


class LinkSuperseded(LinkError):
    code = "link_superseded"
    title = _l("Another link was used")
    message = _l("Your password was set with another link, which ended this one. Ask for a new one.")


class LinkRevoked(LinkError):
    code = "link_revoked"
    title = _l("This link was cancelled")
    message = _l(
        "It was cancelled, or something about your account has changed since it was sent. Ask for a new one."
    )


class AccountUnavailable(LinkError):
    code = "account_unavailable"
    title = _l("This account can not be recovered here")
    message = _l("The account is not active at the moment. Please contact whoever runs this site.")
