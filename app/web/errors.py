"""What can go wrong, as types. Each carries the code that JSON clients and redirects get.

RecoveryError
├── SettingsError         the configuration is refused; `problems` says all that is wrong
├── Undeliverable         a message that must not be sent; `reason` is for the admin
├── BreachesUnknown       whether a password was in a breach can not be found out now
├── Unreadable            a message whose key is not known here
├── MailHeld              no mail can go out now, whatever it says; the next look is after `pause`
│   ├── RelayAway             the relay can not be reached
│   └── RelayMisconfigured    before a setting is corrected; says which
└── RequestError          answered with `status` and `code`
    ├── Busy
    ├── NoMail
    ├── InvalidRequest
    ├── OriginNotAllowed
    └── LinkError         a reset link that can not be used
        ├── LinkInvalid
        ├── LinkExpired
        ├── LinkUsed
        ├── LinkSuperseded
        ├── LinkRevoked
        └── AccountUnavailable

IdentityError (ValueError)  a value that no account can have as email, username or phone
"""

from __future__ import annotations

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l


class RequestError(Exception):
    """A request that is refused. `status` is the HTTP status, `code` the machine's word for it; `title` and
    `message` are said in the language of whoever reads them."""

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
    """More people than this machine can hash passwords for."""

    status = 503
    code = "unavailable"
    title = _l("Too much is going on right now")
    message = _l("Nothing was changed. Please try again in a minute.")
    retry_after = 30


class NoMail(RequestError):
    """Somebody asks for a mail, and MAIL_SERVER is empty. The message says whom to ask."""

    status = 503
    code = "mail_not_configured"
    title = _l("Please ask for help")

    def __init__(self, contact: str) -> None:
        said = _(
            "This site sends no mail. Please ask %(contact)s for a link to a new password.", contact=contact
        )
        super().__init__(said)


class InvalidRequest(RequestError):
    """Malformed input: wrong type, missing, repeated or too long."""


class OriginNotAllowed(RequestError):
    status = 403
    code = "origin_not_allowed"
    message = _l("Requests from that origin are not allowed.")
