"""Everything we tell Flask-Security, and where our parts are plugged into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, after_this_request, g, has_request_context, request
from flask.typing import ResponseReturnValue
from flask_security import (
    MailUtil,
    Security,
    SQLAlchemyUserDatastore,
    password_reset,
)
from flask_security.mail_util import EmailValidateException
from flask_security.utils import get_message
from sqlalchemy.exc import DataError, IntegrityError

from . import clients, foreign, hashing, identities, outbox, passwords, recovery, sessions, signals
from .askings import ASKINGS
from .db import db
from .errors import IdentityError
from .forms import ChangeForm, NewPasswordForm
from .models import FsRefreshTracker, Role, User, WebAuthn
from .settings import Settings
from .sign_in import SignInForm

if TYPE_CHECKING:
    from itsdangerous import URLSafeTimedSerializer

MESSAGES = {
    "GENERIC_AUTHN_FAILED": "That did not match. Check what you typed and try again.",
    "RETYPE_PASSWORD_MISMATCH": "The two passwords are not the same.",
    "PASSWORD_NOT_PROVIDED": "Type a password.",
    "INVALID_PASSWORD": "That is not your current password.",
    "CONFIRMATION_REQUEST": "If there is an account to be confirmed, a mail is on its way.",
    "USERNAME_RECOVERY_REQUEST": "If there is an account with a username, a mail is on its way.",
    "INVALID_REDIRECT": "After signing in you can only go on to a page of this site.",
    **passwords.MESSAGES,
}

# Of the mails that Flask-Security writes; the others have a template.
SUBJECTS = {
    "EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE": "Your {site} password was changed",
    "CHANGE_EMAIL_SUBJECT": "Confirm your new address for {site}",
    "EMAIL_SUBJECT_TWO_FACTOR": "Your code for {site}",
}


def init_app(app: Flask, settings: Settings) -> None:
    for name, text in MESSAGES.items():
        app.config[f"SECURITY_MSG_{name}"] = (text, "error")
    app.config["SECURITY_MSG_UNAUTHENTICATED"] = ("Please sign in first.", "info")
    app.config["SECURITY_MSG_PASSWORD_CHANGE"] = ("Your password is changed.", "success")
    for name, text in SUBJECTS.items():  # whoever sets one of these has it
        if f"SECURITY_{name}" not in settings.handed_on:
            app.config[f"SECURITY_{name}"] = text.format(site=settings.RECOVERY_SITE_NAME)
    sessions.prepare(app, settings)
    foreign.init()
    identities.init_app(app, settings)
    clients.init_app(app, settings)
    security = Security(
        app,
        Accounts(db, User, Role, WebAuthn, FsRefreshTracker),
        login_form=SignInForm,
        reset_password_form=NewPasswordForm,
        change_password_form=ChangeForm,
        mail_util_cls=QueuedMailUtil,
        password_util_cls=passwords.RecoveryPasswordUtil,
    )
    hashing.init_app(app, settings)
    sessions.init_app(app, settings)
    security.reset_serializer = cast("URLSafeTimedSerializer", recovery.LinkSerializer())
    security.render_json(clients.json_answer)
    security.want_json(clients.wants_json)
    security.reset_password_context_processor(recovery.account_on_the_page)
    password_reset.connect(recovery.on_password_reset, app)
    signals.init_app(app)
    _mount_views(app)


class Accounts(SQLAlchemyUserDatastore):
    """Flask-Security's datastore; a taken identity is said at once, not at the end of the request."""

    def find_user(self, case_insensitive: bool = False, **which: Any) -> Any:
        """As Flask-Security's. The account of this request's reset link is at hand already: looked up
        again, it may have a new uniquifier, and who lost a race would hear of an invalid link (seen).
        """
        at_hand = g.get("reset_user")
        if at_hand is not None and which == {"fs_uniquifier": at_hand.fs_uniquifier}:
            return at_hand
        return super().find_user(case_insensitive, **which)

    def create_user(self, **attributes: Any) -> Any:
        """As Flask-Security's. Raises IdentityError when another account has one of the identities."""
        user = super().create_user(**attributes)
        try:
            db.session.flush()
        except (IntegrityError, DataError):
            db.session.rollback()
            raise IdentityError("another account has one of these identities, or one is too long") from None
        return user


class QueuedMailUtil(MailUtil):
    """Flask-Security's seam for mail: what it writes goes through our outbox, sealed until it is sent."""

    def normalize(self, email: str) -> str:
        """The one normal form of an address. Raises EmailValidateException."""
        if (normal := identities.email(email)) is None:
            raise EmailValidateException(get_message("INVALID_EMAIL_ADDRESS")[0])
        return normal

    validate = normalize  # no DNS in a request

    def send_mail(
        self, template: str, subject: str, recipient: Any, sender: Any, body: Any, html: Any, **context: Any
    ) -> None:
        """Queue it. Some of Flask-Security's views commit nothing, so this sees to that itself."""
        user = context.get("user")
        outbox.enqueue(
            "flask_security",
            user_id=user.id if user else None,
            recipient=recipient,
            subject=str(subject),
            text=body or "",
            html=html or "",
        )
        if has_request_context():
            after_this_request(_commit)


def _commit(response: Response) -> Response:
    db.session.commit()
    return response


def _mount_views(app: Flask) -> None:
    """Ours for asking and landing; the POST of the reset view stays Flask-Security's."""
    redeem: Any = app.view_functions["security.reset_password"]

    def reset_password(token: str) -> ResponseReturnValue:
        if request.method == "POST":
            answer: ResponseReturnValue = redeem(token)
            return answer
        return recovery.land(token)

    for endpoint in ASKINGS.keys() & app.view_functions.keys():
        app.view_functions[endpoint] = recovery.ask
    app.view_functions["security.reset_password"] = reset_password
