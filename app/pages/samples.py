"""Made-up data for every mail: `check` renders mails with it, and `mail preview` shows them.

A mail that is added to `mail.py` or `other_mails.py` needs a sample here; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import make_msgid
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, flash
from flask_babel import LazyString
from flask_babel import gettext as _
from flask_security.utils import get_message

from ..accounts.models import User
from ..mail import composing
from ..mail.flask_security_mails import subject_of
from ..settings import current
from ..settings.schema import Settings
from ..web.i18n import duration

FOLDER = "security/email/"
SUBJECT, TEXT, HTML = ".subject.txt", ".txt", ".html"
RECIPIENT = "alice@example.com"
LINK = "https://id.example.com/sample/a-link-that-opens-nothing"
TOKEN = "A-sample-token-that-opens-nothing-at-all-00"  # noqa: S105  # as long as a true one
OBJECTION = "A-sample-objection-that-ends-nothing-at-all"


@dataclass(frozen=True)
class Need:
    """Something that a mail must hold: in words, as a template writes it, and the variable behind it."""

    what: str
    variable: str
    expression: str = ""


@dataclass(frozen=True)
class Mail:
    """One kind of mail, with what its templates may use."""

    name: str
    about: str
    given: dict[str, Any]
    needs: tuple[Need, ...] = ()
    wants: tuple[Need, ...] = ()
    only_with: str = ""  # the setting without which it is never sent
    subject: str = ""  # Flask-Security's setting, for a mail that it writes; ours have a template

    def parts(self) -> dict[str, str]:
        """Its templates, by their endings."""
        endings = (TEXT, HTML) if self.subject else (SUBJECT, TEXT, HTML)
        return {ending: f"{FOLDER}{self.name}{ending}" for ending in endings}

    @property
    def context(self) -> dict[str, Any]:
        """Needs an app context, and no database."""
        return {**self.given, "user": alice()} if self.subject else self.given


_OBJECTION = Need(
    "the link for “that was not me”",
    "objection",
    'url_for("objections.land", token=objection, _external=True)',
)
_RESET = Need(
    "the link", "reset_token", 'url_for("security.reset_password", token=reset_token, _external=True)'
)
_WHO = {"source": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"}
_HAPPENED = {
    "address": RECIPIENT,
    "changed_at": datetime(2026, 2, 28, 14, 5, tzinfo=UTC),
    "objection": OBJECTION,
}
_TWO_MINUTES = LazyString(duration, timedelta(minutes=2))  # in the language in which it is shown
# Every mail that Sparekey sends, whatever is switched on.
MAILS = (
    Mail(
        "reset_instructions",
        "to whoever asked for a link",
        {"reset_token": TOKEN, "objection": OBJECTION},
        (_RESET,),
        (_OBJECTION,),
    ),
    Mail("reset_notice", "after a reset", {**_HAPPENED, **_WHO}, (), (_OBJECTION,)),
    Mail(
        "change_notice",
        "after a change of the password at /change",
        {},
        only_with="SECURITY_CHANGEABLE",
        subject="SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE",
    ),
    Mail(
        "confirmation_instructions",
        "to whoever has to confirm an address",
        {"confirmation_link": LINK},
        (Need("the link", "confirmation_link"),),
        only_with="SECURITY_CONFIRMABLE",
    ),
    Mail(
        "username_recovery",
        "to whoever forgot the username",
        {"username": "alice"},
        (Need("the username", "username"),),
        only_with="SECURITY_USERNAME_RECOVERY",
    ),
    Mail(
        "registration",
        "to whoever signs up",
        {"reset_token": TOKEN, "missed": None},
        (_RESET,),
        only_with="SECURITY_REGISTERABLE",
    ),
    Mail(
        "registration_existing",
        "to whoever has an account, and signs up again",
        {},
        only_with="SECURITY_REGISTERABLE",
    ),
    Mail(
        "us_instructions",
        "with a code to sign in with",
        {"login_token": "123456", "within": _TWO_MINUTES},
        (Need("the code", "login_token"),),
        only_with="SECURITY_UNIFIED_SIGNIN",
    ),
    Mail(
        "change_email_instructions",
        "to a new address, which is to be confirmed",
        {"link": LINK, "token": TOKEN, "within": LazyString(duration, timedelta(hours=2))},
        (Need("the link", "link"),),
        only_with="SECURITY_CHANGE_EMAIL",
        subject="SECURITY_CHANGE_EMAIL_SUBJECT",
    ),
    Mail(
        "address_notice",
        "to the old address, after a change of address",
        {"new_address": "a•••@example.org", **_HAPPENED, **_WHO},
        (Need("the new address", "new_address"),),
        (_OBJECTION,),
        only_with="SECURITY_CHANGE_EMAIL",
    ),
    Mail(
        "two_factor_instructions",
        "with a code, when somebody signs in",
        {"token": "123456", "username": "alice", "within": _TWO_MINUTES},
        (Need("the code", "token"),),
        only_with="SECURITY_TWO_FACTOR",
        subject="SECURITY_EMAIL_SUBJECT_TWO_FACTOR",
    ),
    Mail(
        "operator_alert",
        "to the operator",
        {
            "what": LazyString(_, "Somebody says that a change of their account was not theirs."),
            "account": 42,
            **_HAPPENED,
        },
        only_with="RECOVERY_OPERATOR",
    ),
)


def is_sent(mail: Mail, settings: Settings) -> bool:
    """Whether this mail can go out at all, as things are set."""
    return not mail.only_with or bool(getattr(settings, mail.only_with))


@contextmanager
def a_request(messages: Sequence[str] = ("UNAUTHENTICATED",)) -> Iterator[None]:
    """Somebody asks, with messages from the page before, by Flask-Security's names for them."""
    headers = {"User-Agent": _WHO["user_agent"]}
    # One of Flask-Security's: its pages name their files by where they are.
    path = current_app.config["SECURITY_LOGIN_URL"]
    with current_app.test_request_context(
        path, environ_base={"REMOTE_ADDR": _WHO["source"]}, headers=headers
    ):
        for name in messages:
            flash(*get_message(name))
        yield


def known_in(context: Iterable[str]) -> list[str]:
    """What a template with this context may use, beside Flask's and Flask-Security's own."""
    return sorted({*context, "settings", "url_for"})


def letter(mail: Mail, recipient: str = RECIPIENT) -> composing.Mail:
    """Compose the mail with its made-up data. Raises whatever is wrong with its templates."""
    rendered = {ending: render(name, mail.context) for ending, name in mail.parts().items()}
    subject = subject_of(mail.subject) if mail.subject else rendered[SUBJECT]
    host = urlsplit(current().RECOVERY_PUBLIC_URL).hostname
    return composing.compose(recipient, subject, rendered[TEXT], rendered[HTML], make_msgid(domain=host))


def render(template: str, context: dict[str, Any]) -> str:
    """As Flask does it, without its signals."""
    known = dict(context)
    current_app.update_template_context(known)
    return current_app.jinja_env.get_template(template).render(known)


def alice(**more: Any) -> User:
    """Return a made-up account, for mails and pages that show one."""
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
