"""Every mail and page with made-up data: `check` renders them, `mail preview` shows them.

A mail that is added to `mail.py` or `other_mails.py` gets its sample here; a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flask import current_app, flash
from flask_security.forms import Form
from flask_security.utils import localize_callback

from .forms import AskForm, ChangeForm, NewPasswordForm
from .letters import Letter
from .models import User
from .settings import Settings, current
from .sign_in import SignInForm

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
        return {**self.given, "user": _alice()} if self.subject else self.given


@dataclass(frozen=True)
class Page:
    """One state of a page. `fields`: the names of what its form must send."""

    template: str
    context: dict[str, Any]
    fields: tuple[str, ...] = ()


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
        "change_email_instructions",
        "to a new address, which is to be confirmed",
        {"link": LINK, "token": TOKEN, "within": "2 hours"},
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
        {"token": "123456", "username": "alice", "within": "2 minutes"},
        (Need("the code", "token"),),
        only_with="SECURITY_TWO_FACTOR",
        subject="SECURITY_EMAIL_SUBJECT_TWO_FACTOR",
    ),
    Mail(
        "operator_alert",
        "to the operator",
        {"what": "There are more events of the kind 'refused' than usual", "account": 42, **_HAPPENED},
        only_with="RECOVERY_OPERATOR",
    ),
)


def is_sent(mail: Mail, settings: Settings) -> bool:
    """Whether this mail can go out at all, as things are set."""
    return not mail.only_with or bool(settings.as_config().get(mail.only_with))


def pages() -> list[Page]:
    """Our pages, in their states. Needs a request context (`a_request`), and no database."""
    found = [
        Page("home", {}),
        Page("home", {"current_user": _alice()}),
        Page("check_mail", {}),
        Page("reset_done", {"onward": None}),
        Page("reset_done", {"onward": "https://app.example.com/"}),
        *(
            Page(
                "problem", {"title": "Sorry", "text": "That did not work.", "code": code, "request_id": name}
            )
            for code, name in (("not_found", None), ("link_expired", None), ("internal_error", "sample"))
        ),
        *(
            Page(
                "not_me",
                {"kind": kind, "objection": OBJECTION, "has_happened": has_happened, "state": state},
                ("csrf_token", "objection") if state == "asked" else (),
            )
            for kind in ("reset_instructions", "reset_notice", "address_notice")
            for has_happened in ((False, True) if kind == "reset_instructions" else (True,))
            for state in ("asked", "done", "known")
        ),
    ]
    return [*found, *_forms(), *_forms(with_errors=True)]


def _forms(*, with_errors: bool = False) -> list[Page]:
    signing_in, new = SignInForm(formdata=None), NewPasswordForm(formdata=None)
    resetting = {"reset_password_token": "~sample", "account": "a•••@example.com"}
    found = [
        Page(
            "login_user",
            {
                "login_user_form": signing_in,
                "identity_attributes": current().SECURITY_USER_IDENTITY_ATTRIBUTES,
            },
            ("csrf_token", "identity", "password"),
        ),
        Page(
            "forgot_password",
            {"forgot_password_form": AskForm(formdata=None)},
            ("csrf_token", "identity") if current().sends_mail else (),
        ),
        Page(
            "reset_password",
            {"reset_password_form": new, "other": "b•••@example.com" if with_errors else None, **resetting},
            ("csrf_token", "password", "password_confirm"),
        ),
    ]
    if current().SECURITY_CHANGEABLE:
        change = {"change_password_form": ChangeForm(formdata=None), "active_password": True}
        fields = ("csrf_token", "password", "new_password", "new_password_confirm")
        found.append(Page("change_password", {**change, "current_user": _alice()}, fields))
    if with_errors:
        for page in found:
            _refuse(next(value for value in page.context.values() if isinstance(value, Form)))
    return found


def _refuse(form: Any) -> None:
    form.form_errors = ["That did not match."]
    for field_ in form:
        field_.errors = ["That is too short."]


@contextmanager
def a_request() -> Iterator[None]:
    """Somebody asks, with a message from the page before."""
    headers = {"User-Agent": _WHO["user_agent"]}
    with current_app.test_request_context(environ_base={"REMOTE_ADDR": _WHO["source"]}, headers=headers):
        flash("Please sign in first.", "info")
        yield


def known_in(context: dict[str, Any]) -> list[str]:
    """What a template with this context may use, beside Flask's and Flask-Security's own."""
    return sorted({*context, "settings", "url_for"})


def letter(mail: Mail) -> Letter:
    """The mail with its made-up data. Raises whatever is wrong with its templates."""
    rendered = {ending: render(name, mail.context) for ending, name in mail.parts().items()}
    subject = subject_of(mail) if mail.subject else rendered[SUBJECT].strip()
    return Letter(RECIPIENT, subject, rendered[TEXT], rendered[HTML])


def subject_of(mail: Mail) -> str:
    """Of a mail that Flask-Security writes."""
    return str(localize_callback(current_app.config[mail.subject]))


def render(template: str, context: dict[str, Any]) -> str:
    """As Flask does it, without its signals."""
    known = dict(context)
    current_app.update_template_context(known)
    return current_app.jinja_env.get_template(template).render(known)


def _alice() -> User:
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
    )
