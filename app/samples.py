"""Every mail and page with made-up data: `check` renders them, `mail preview` shows them.

A mail that is added to `mail.py` or `other_mails.py` gets its sample here; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flask import current_app
from flask_security.utils import localize_callback
from jinja2 import Environment

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


@dataclass(frozen=True)
class Mail:
    """One kind of mail, with what its templates may use."""

    name: str
    about: str
    given: dict[str, Any]
    needs: dict[str, str]  # what must stand in it: the words for it, as a template writes it
    wants: dict[str, str] = field(default_factory=dict)  # what should stand in it
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


_OBJECTION = {"the link for “that was not me”": 'url_for("objections.land", token=objection, _external=True)'}
_WHO = {"source": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/148.0"}
_HAPPENED = {"address": RECIPIENT, "changed_at": datetime(2026, 2, 28, 14, 5, tzinfo=UTC), "objection": TOKEN}

# Every mail that Sparekey sends, whatever is switched on.
MAILS = (
    Mail(
        "reset_instructions",
        "to whoever asked for a link",
        {"reset_token": TOKEN, "objection": TOKEN},
        {"the link": 'url_for("security.reset_password", token=reset_token, _external=True)'},
        _OBJECTION,
    ),
    Mail("reset_notice", "after a reset", {**_HAPPENED, **_WHO}, {}, _OBJECTION),
    Mail(
        "change_notice",
        "after a change of the password at /change",
        {},
        {},
        only_with="SECURITY_CHANGEABLE",
        subject="SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE",
    ),
    Mail(
        "confirmation_instructions",
        "to whoever has to confirm an address",
        {"confirmation_link": LINK},
        {"the link": "confirmation_link"},
        only_with="SECURITY_CONFIRMABLE",
    ),
    Mail(
        "username_recovery",
        "to whoever forgot the username",
        {"username": "alice"},
        {"the username": "username"},
        only_with="SECURITY_USERNAME_RECOVERY",
    ),
    Mail(
        "change_email_instructions",
        "to a new address, which is to be confirmed",
        {"link": LINK, "token": TOKEN, "within": "2 hours"},
        {"the link": "link"},
        only_with="SECURITY_CHANGE_EMAIL",
        subject="SECURITY_CHANGE_EMAIL_SUBJECT",
    ),
    Mail(
        "address_notice",
        "to the old address, after a change of address",
        {"new_address": "a•••@example.org", **_HAPPENED, **_WHO},
        {"the new address": "new_address"},
        _OBJECTION,
        only_with="SECURITY_CHANGE_EMAIL",
    ),
    Mail(
        "two_factor_instructions",
        "with a code, when somebody signs in",
        {"token": "123456", "username": "alice", "within": "2 minutes"},
        {"the code": "token"},
        only_with="SECURITY_TWO_FACTOR",
        subject="SECURITY_EMAIL_SUBJECT_TWO_FACTOR",
    ),
    Mail(
        "operator_alert",
        "to the operator",
        {"what": "There are more events of the kind 'refused' than usual", "account": 42, **_HAPPENED},
        {"what happened": "what"},
        only_with="RECOVERY_OPERATOR",
    ),
)


def is_sent(mail: Mail, settings: Settings) -> bool:
    """Whether this mail can go out at all, as things are set."""
    return not mail.only_with or bool(settings.as_config().get(mail.only_with))


def pages() -> list[Page]:
    """Our pages, in each of their states. Needs a request context, and no database."""
    token = "~sample"  # noqa: S105  # a handle, and no true one
    new = NewPasswordForm(formdata=None)
    problem = {"title": "There is nothing here", "text": "The address may be incomplete.", "request_id": None}
    objection = {"kind": "reset_notice", "objection": TOKEN}
    found = [
        Page("home", {}),
        Page("home", {"current_user": _alice()}, ("csrf_token",)),
        Page(
            "login_user",
            {"login_user_form": SignInForm(formdata=None)},
            ("csrf_token", "identity", "password"),
        ),
        Page("forgot_password", {"forgot_password_form": AskForm(formdata=None)}, ("csrf_token", "identity")),
        Page("check_mail", {}),
        Page(
            "reset_password",
            {"reset_password_form": new, "reset_password_token": token, "account": "a•••@e…", "other": None},
            ("csrf_token", "password", "password_confirm"),
        ),
        Page("reset_done", {"onward": None}),
        Page("problem", {**problem, "code": "not_found"}),
        Page("problem", {**problem, "code": "link_expired", "request_id": "sample"}),
        Page(
            "not_me",
            {**objection, "has_happened": True, "state": "asked"},
            ("csrf_token", "objection"),
        ),
        Page("not_me", {**objection, "has_happened": True, "state": "done"}),
        Page("not_me", {**objection, "has_happened": True, "state": "known"}),
    ]
    if current().SECURITY_CHANGEABLE:
        change = {"change_password_form": ChangeForm(formdata=None), "active_password": True}
        fields = ("csrf_token", "password", "new_password", "new_password_confirm")
        found.append(Page("change_password", {**change, "current_user": _alice()}, fields))
    return found


def letter(mail: Mail, env: Environment) -> Letter:
    """The mail with its made-up data. Raises whatever is wrong with its templates."""
    rendered = {ending: render(env, name, mail.context) for ending, name in mail.parts().items()}
    of_fst = current_app.config.get(mail.subject)
    subject = str(localize_callback(of_fst)) if mail.subject else rendered[SUBJECT].strip()
    return Letter(RECIPIENT, subject, rendered[TEXT], rendered[HTML])


def render(env: Environment, template: str, context: dict[str, Any]) -> str:
    """As Flask does it, in this environment."""
    known = dict(context)
    current_app.update_template_context(known)
    return env.get_template(template).render(known)


def _alice() -> User:
    return User(email=RECIPIENT, username="alice", active=True)
