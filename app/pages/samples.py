"""Sample data for every mail: `check` renders mails with it, and `mail preview` shows them.

A new mail needs a sample here. A test compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import make_msgid
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, render_template
from flask.ctx import RequestContext
from flask_babel import LazyString
from flask_babel import gettext as _

from ..accounts.models import User
from ..mail import composing
from ..mail.flask_security_mails import subject_of
from ..settings import current
from ..web.i18n import duration
from .template_sources import read

FOLDER = "security/email/"
SUBJECT, TEXT, HTML = composing.ENDINGS
RECIPIENT = "alice@example.com"
LINK = "https://id.example.com/sample/a-link-that-opens-nothing"
TOKEN = "A-sample-token-that-opens-nothing-at-all-00"  # noqa: S105  # as long as a true one
OBJECTION = "A-sample-objection-that-ends-nothing-at-all"
SOURCE, USER_AGENT = "203.0.113.7", "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"


@dataclass(frozen=True)
class Mail:
    """One kind of mail, with the variables that its templates may use."""

    name: str
    about: str
    given: dict[str, Any]
    subject: str = ""  # Flask-Security's setting, for a mail that it writes; ours have a template

    @property
    def parts(self) -> dict[str, str]:
        """Its templates, by their endings."""
        endings = (TEXT, HTML) if self.subject else (SUBJECT, TEXT, HTML)
        return {ending: f"{FOLDER}{self.name}{ending}" for ending in endings}

    @property
    def context(self) -> dict[str, Any]:
        """Needs an app context, and no database."""
        return {**self.given, "user": alice()} if self.subject else self.given

    @property
    def needs(self) -> dict[str, tuple[str, str]]:
        """Those of NEEDS that the shipped text shows."""
        shown = read(f"shipped/{self.parts[TEXT]}").names()
        return {variable: need for variable, need in NEEDS.items() if variable in shown}


# Variables that a mail must show if the shipped one does: in words, and as a template writes them.
NEEDS = {
    "reset_token": ("the link", 'url_for("security.reset_password", token=reset_token, _external=True)'),
    "confirmation_link": ("the link", "confirmation_link"),
    "link": ("the link", "link"),
    "login_token": ("the code", "login_token"),
    "token": ("the code", "token"),
    "username": ("the username", "username"),
    "new_address": ("the new address", "new_address"),
    "objection": (
        "the link for “that was not me”",
        'url_for("objections.land", token=objection, _external=True)',
    ),
}
# The mails and pages that are used only with a setting, by how the names of their templates begin.
FEATURES = {
    "RECOVERY_OPERATOR": ("operator_",),
    "SECURITY_CHANGEABLE": ("change_notice", "change_password"),
    "SECURITY_CHANGE_EMAIL": ("address_notice", "change_email"),
    "SECURITY_CONFIRMABLE": ("confirmation_", "send_confirmation"),
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES": ("mf_",),
    "SECURITY_REGISTERABLE": ("register_user", "registration"),
    "SECURITY_TWO_FACTOR": ("two_factor_",),
    "SECURITY_UNIFIED_SIGNIN": ("us_",),
    "SECURITY_USERNAME_RECOVERY": ("recover_username", "username_recovery"),
    "SECURITY_WEBAUTHN": ("wan_",),
    "sends_mail": ("forgot_password",),
}
_REQUESTER = {"source": SOURCE, "user_agent": USER_AGENT}
_CHANGE = {
    "address": RECIPIENT,
    "changed_at": datetime(2026, 2, 28, 14, 5, tzinfo=UTC),
    "objection": OBJECTION,
}
_TWO_MINUTES = LazyString(duration, timedelta(minutes=2))  # in the language in which it is shown
# Every mail that Sparekey sends, whatever is switched on.
MAILS = (
    Mail("reset_instructions", "to whoever asked for a link", {"reset_token": TOKEN, "objection": OBJECTION}),
    Mail("reset_notice", "after a reset", {**_CHANGE, **_REQUESTER}),
    Mail(
        "change_notice",
        "after a change of the password at /change",
        {},
        subject="SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE",
    ),
    Mail("confirmation_instructions", "to whoever has to confirm an address", {"confirmation_link": LINK}),
    Mail("username_recovery", "to whoever forgot the username", {"username": "alice"}),
    Mail("registration", "to whoever signs up", {"reset_token": TOKEN, "missed": None}),
    Mail("registration_existing", "to whoever has an account, and signs up again", {}),
    Mail("us_instructions", "with a code to sign in with", {"login_token": "123456", "within": _TWO_MINUTES}),
    Mail(
        "change_email_instructions",
        "to a new address, which is to be confirmed",
        {"link": LINK, "token": TOKEN, "within": LazyString(duration, timedelta(hours=2))},
        subject="SECURITY_CHANGE_EMAIL_SUBJECT",
    ),
    Mail(
        "address_notice",
        "to the old address, after a change of address",
        {"new_address": "a•••@example.org", **_CHANGE, **_REQUESTER},
    ),
    Mail(
        "two_factor_instructions",
        "with a code, when somebody signs in",
        {"token": "123456", "username": "alice", "within": _TWO_MINUTES},
        subject="SECURITY_EMAIL_SUBJECT_TWO_FACTOR",
    ),
    Mail(
        "operator_alert",
        "to the operator",
        {
            "what": LazyString(_, "Somebody says that a change of their account was not theirs."),
            "account": 42,
            **_CHANGE,
        },
    ),
)


def a_request() -> RequestContext:
    """Return the context of a sample request."""
    headers = {"User-Agent": USER_AGENT}
    # One of Flask-Security's: its pages name their files by where they are.
    path = current_app.config["SECURITY_LOGIN_URL"]
    return current_app.test_request_context(path, environ_base={"REMOTE_ADDR": SOURCE}, headers=headers)


def feature_of(template: str) -> str:
    """Return the setting without which a mail or page is not used; nothing if it always is."""
    name = PurePath(template).name
    return next((setting for setting, starts in FEATURES.items() if name.startswith(starts)), "")


def is_used(template: str) -> bool:
    """True if the settings let this mail go out, or this page be shown."""
    feature = feature_of(template)
    return not feature or bool(getattr(current(), feature))


def known_in(context: Iterable[str]) -> list[str]:
    """Return the variables of a template, without those that Flask and Flask-Security give to all."""
    return sorted({*context, "settings", "url_for"})


def letter(mail: Mail, recipient: str = RECIPIENT) -> composing.Mail:
    """Compose the mail with its sample data. Raises whatever is wrong with its templates."""
    rendered = {ending: render_template(name, **mail.context) for ending, name in mail.parts.items()}
    subject = subject_of(mail.subject) if mail.subject else rendered[SUBJECT]
    host = urlsplit(current().RECOVERY_PUBLIC_URL).hostname
    return composing.compose(recipient, subject, rendered[TEXT], rendered[HTML], make_msgid(domain=host))


def alice(**more: Any) -> User:
    """Return a sample account, for mails and pages that show one."""
    now = datetime(2026, 2, 28, 14, 5)  # as the database keeps it: UTC, and does not say so
    return User(
        id=1,
        email=RECIPIENT,
        username="alice",
        us_phone_number="+14155550123",
        active=True,
        confirmed_at=now,
        create_datetime=now,
        update_datetime=now,
        **more,
    )
