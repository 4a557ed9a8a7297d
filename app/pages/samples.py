"""Sample data for every mail: `check` renders mails with it, and `mail preview` shows them.

A new mail needs a sample here; a test compares the variables with those that the mail is really given.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import make_msgid
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, render_template, url_for
from flask.ctx import RequestContext
from flask_babel import LazyString, gettext as _

from ..accounts.models import User
from ..mail import composing
from ..recovery.instructions import sign_in_help
from ..settings import current
from ..web.i18n import duration
from ..web.responses import context_of
from .template_sources import parse

FOLDER = "security/email/"
SUBJECT, TEXT, HTML = ".subject.txt", ".txt", ".html"
RECIPIENT = "alice@example.com"
LINK = "https://id.example.com/sample/a-link-that-opens-nothing"
TOKEN = "A-sample-token-that-opens-nothing-at-all-00"  # noqa: S105  # as long as a real one
OBJECTION = "A-sample-objection-that-ends-nothing-at-all"
AT = datetime(2026, 2, 28, 14, 5, tzinfo=UTC)
SOURCE, USER_AGENT = "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"


@dataclass(frozen=True)
class Mail:
    """A kind of mail with sample values of its variables."""

    name: str
    occasion: str
    variables: dict[str, Any]
    is_rendered_in_request: bool = False  # by Flask-Security, and not by the worker

    @property
    def templates(self) -> dict[str, str]:
        """The names of its templates, by ending."""
        return {ending: f"{FOLDER}{self.name}{ending}" for ending in (SUBJECT, TEXT, HTML)}

    @property
    def context(self) -> dict[str, Any]:
        """The variables of its templates. Needs an app context, but no database."""
        requester = {"source": SOURCE, "user_agent": "Firefox, Linux"}
        return {"user": sample_user(), "occurred_at": AT, **requester, **context_of("mail"), **self.variables}

    @property
    def required(self) -> dict[str, tuple[str, str]]:
        """The entries of REQUIRED whose variables the shipped text shows."""
        names = parse(f"shipped/{self.templates[TEXT]}").names()
        return {variable: entry for variable, entry in REQUIRED.items() if variable in names}


# Variables that a mail must show if the shipped one does: a description, and the template expression.
REQUIRED = {
    "reset_token": ("the link", 'url_for("security.reset_password", token=reset_token, _external=True)'),
    "confirmation_link": ("the link", "confirmation_link"),
    "link": ("the link", "link"),
    "login_token": ("the code", "login_token"),
    "token": ("the code", "token"),
    "username": ("the username", "username"),
    "new_address": ("the new address", "new_address"),
    "objection": ("the “This wasn't me” link", 'url_for("objections.land", token=objection, _external=True)'),
}
_ALERT = {"address": RECIPIENT, "objection": OBJECTION}
_NOTICE = {
    **_ALERT,
    "source": SOURCE,
    "user_agent": "Firefox, Linux",
    "new_address": "a•••@example.org",
    "is_done": True,
    "changes": [("added", "passkey:My phone", "webauthn", "My phone")],
}
_WHAT = LazyString(_, "A user reported a change to their account that they didn't make.")
_HOURS = LazyString(duration, timedelta(hours=2))  # in the language of the mail
_CODE = {"username": "alice", "token": "123456", "within": LazyString(duration, timedelta(minutes=2))}
_CONFIRMATION = {"confirmation_link": LINK, "confirmation_token": TOKEN, "within": _HOURS}
_NEW_ADDRESS = {"link": LINK, "token": TOKEN, "within": _HOURS}
_RESET_LINK = LazyString(url_for, "security.reset_password", token=TOKEN, _external=True)
_RESET = {
    "reset_token": TOKEN,
    "reset_link": _RESET_LINK,
    "confirmation_link": _RESET_LINK,
    "reset_code": "48217730",
    "within": _HOURS,
}
_NO_LINK = {"reset_link": None, "confirmation_link": None}
# Every mail that Sparekey can send, with any feature enabled.
MAILS = (
    Mail("reset_instructions", "after a request for a link", {**_RESET, "objection": OBJECTION}),
    Mail("sign_in_help", "the same, to an account without a password", {"help": LazyString(sign_in_help)}),
    Mail("invitation", "with the first link of an account that an admin made", {**_RESET, "name": "Alice"}),
    Mail("reset_notice", "after a reset", _NOTICE),
    Mail("change_notice", "after any other change of the password", _NOTICE),
    Mail("confirmation_instructions", "to confirm an address", _CONFIRMATION),
    Mail("username_recovery", "after a request for the username", {"username": "alice"}),
    Mail("welcome", "after a sign-up", {**_RESET, "missed": None, "chosen": "alice"}),
    Mail("welcome_existing", "after a sign-up with the address of an account", _NO_LINK),
    Mail("us_instructions", "with a sign-in code", {**_CODE, "login_token": "123456", "login_link": None}),
    Mail("change_email_instructions", "to a new address, to confirm it", _NEW_ADDRESS, True),
    Mail("second_address", "to a second address, to confirm it", {"link": LINK, "within": _HOURS}),
    Mail("address_notice", "to the old address, before and after a change of address", _NOTICE),
    Mail("account_notice", "after a change of a factor, the state or a role", _NOTICE),
    Mail("address_frozen", "to both addresses, after an objection to a change", _NOTICE),
    Mail("address_settled", "to both addresses, after such an objection is settled", _NOTICE),
    Mail("two_factor_instructions", "with a code for the second factor", _CODE, True),
    Mail("two_factor_rescue", "to the operator, from a user who can't use a second factor", {}, True),
    Mail("operator_alert", "to the operator", {**_ALERT, "account": 42, "what": _WHAT}),
)


def request_context() -> RequestContext:
    """Return the context of a sample request."""
    headers = {"User-Agent": USER_AGENT}
    # A URL of Flask-Security's, because its pages refer to their static files by the current blueprint.
    path = current_app.config["SECURITY_LOGIN_URL"]
    return current_app.test_request_context(path, environ_base={"REMOTE_ADDR": SOURCE}, headers=headers)


def variable_names(context: Iterable[str]) -> list[str]:
    """Return the variables that a template may use, without most of those that every template has."""
    return sorted({*context, "settings", "url_for"})


def compose(mail: Mail, recipient: str = RECIPIENT) -> composing.Mail:
    """Compose the mail with its sample data. Raises any error of its templates."""
    rendered = {ending: render_template(name, **mail.context) for ending, name in mail.templates.items()}
    subject = composing.render_subject(mail.name, **mail.context)
    host = urlsplit(current().RECOVERY_PUBLIC_URL).hostname
    return composing.compose(recipient, subject, rendered[TEXT], rendered[HTML], make_msgid(domain=host))


def sample_user(**attributes: Any) -> User:
    """Return a sample account that is in no database session."""
    now = AT.replace(tzinfo=None)  # as the database returns it
    times = dict.fromkeys(("confirmed_at", "create_datetime", "update_datetime"), now)
    names = {"email": RECIPIENT, "username": "alice", "us_phone_number": "+14155550123"}
    return User(id=1, active=True, **names, **times, **attributes)
