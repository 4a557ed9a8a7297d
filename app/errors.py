"""What can go wrong, as types. Each carries the code that JSON clients and redirects get.

RecoveryError
├── SettingsError         the configuration is refused; `problems` says all that is wrong
├── Undeliverable         a message that must not be sent; `reason` is for the admin
├── LeaseLost             another worker has the message
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

from dataclasses import dataclass

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l


class RecoveryError(Exception):
    """The root of the tree."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a setting: what, and where the value came from."""

    name: str
    origin: str
    message: str

    def __str__(self) -> str:
        return f"{self.name} ({self.origin}): {self.message}"


class SettingsError(RecoveryError):
    """The configuration can not be used. All problems are reported at once."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class Undeliverable(RecoveryError):
    """A message that must not be sent. The admin reads `reason`; the person who asked never does."""

    def __init__(self, reason: str, user_id: int | None = None) -> None:
        self.reason, self.user_id = reason, user_id
        super().__init__(reason)


class LeaseLost(RecoveryError):
    """The lease ended, and another worker has the message, or had it: leave it alone."""


class Unreadable(RecoveryError):
    """A message was sealed with a SECRET_KEY that this process does not know (yet, or no longer)."""


class BreachesUnknown(RecoveryError):
    """The service that knows them does not answer, or was not asked because it did not before."""


class MailHeld(RecoveryError):
    """No mail can go out now. It is no message's fault, so no attempt counts; nothing is lost."""

    pause: float  # seconds until a worker looks again


class RelayAway(MailHeld):
    """The relay can not be reached: it is down, busy, or hangs up before it has heard of a mail."""

    pause = 5


class RelayMisconfigured(MailHeld):
    """No mail can be sent before a setting is corrected. The text starts with the setting's name."""

    pause = 30


class RequestError(RecoveryError):
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


class LinkError(RequestError):
    """A reset link that can not be used."""

    title = _l("This link does not work")
    user_id: int | None = None  # whose link it was, for the audit trail only
    client: str = "default"  # the front end that hears of it

    def about(self, user_id: int | None, client: str) -> LinkError:
        self.user_id, self.client = user_id, client
        return self


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
    title = _l("There is a newer link")
    message = _l("Only the newest link works. Look for the latest mail, or ask again.")


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


class IdentityError(ValueError):
    """A value that no account can have as its email address, username or phone number."""
