"""The errors of a reset link that cannot be used, each with its code for programs."""

from typing import Any

from flask_babel import lazy_gettext as _l

from ..web import clients
from ..web.errors import RequestError


class LinkError(RequestError):
    """A reset link that cannot be used, with its account for the audit trail."""

    title = _l("This link doesn't work")
    again: tuple[str, Any] | None = ("security.forgot_password", _l("Request a new link"))

    def __init__(
        self, message: str | None = None, *, user_id: int | None = None, client: str = clients.DEFAULT
    ) -> None:
        super().__init__(message)
        self.user_id, self.client = user_id, client


class LinkInvalid(LinkError):
    code = "link_invalid"
    message = _l(
        "The link is incomplete or didn't come from us. Copy the whole link from the email, or request "
        "a new one."
    )


class LinkExpired(LinkError):
    code = "link_expired"
    title = _l("This link has expired")
    message = _l("Links expire after a short time to keep your account safe. Request a new one.")


class SignUpExpired(LinkExpired):
    """The expired link of a sign-up: a request for a reset link sends an unconfirmed account nothing."""

    message = _l("Links expire after a short time to keep your account safe. Sign up again to get a new one.")
    again = ("security.register", _l("Sign up"))


class LinkUsed(LinkError):
    code = "link_used"
    title = _l("This link has already been used")
    message = _l("Each link works only once. If you still need to reset your password, request a new link.")


class LinkSuperseded(LinkError):
    code = "link_superseded"
    title = _l("A different link was used")
    message = _l(
        "Your password was reset with another link, so this one no longer works. If you still need to "
        "reset it, request a new link."
    )


class LinkRevoked(LinkError):
    code = "link_revoked"
    title = _l("This link was canceled")
    message = _l("The link was canceled, or your account has changed since we sent it. Request a new one.")


class AccountUnavailable(LinkError):
    code = "account_unavailable"
    title = _l("This password can't be reset")
    message = _l("We can't reset the password for this account. Please contact support.")
    again = None
