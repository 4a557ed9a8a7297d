"""One-time codes: protection against replay, text messages, and forms and views of second factors."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, current_app, redirect, request, session, url_for
from flask_babel import lazy_gettext as _l
from flask_security import SmsSenderBaseClass, SmsSenderFactory, Totp, TwoFactorRescueForm, current_user
from flask_security.proxies import _security
from flask_security.recovery_codes import MfRecoveryForm
from flask_security.tf_plugin import tf_clean_session
from flask_security.unified_signin import UnifiedSigninSetupForm
from flask_security.utils import get_message, is_user_authenticated
from flask_security.webauthn import WebAuthnSigninResponseForm
from passlib.exc import UsedTokenError
from passlib.totp import TotpMatch
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column
from wtforms import RadioField, SelectMultipleField, StringField, ValidationError
from wtforms.fields.choices import SelectChoice

from ..db.engine import Model, db, inserts
from ..settings import current, extensions
from ..settings.schema import Settings
from .pasted import plain


class UsedCode(Model):
    """The latest accepted code of a secret, for all processes."""

    secret: Mapped[str] = mapped_column(String(64), primary_key=True)  # a hash
    counter: Mapped[int]


class ReplayProtectedTotp(Totp):
    """Flask-Security's one-time codes, each accepted once (RFC 6238 §5.2)."""

    def verify_totp(self, token: Any, *args: Any, **kwargs: Any) -> bool:
        """True if the code is right, in digits of any script. JSON may hold a number."""
        return bool(super().verify_totp(plain(token) if isinstance(token, str) else token, *args, **kwargs))

    def set_last_counter(self, user: Any, tmatch: TotpMatch) -> None:
        """Record an accepted code, and commit. Raises UsedTokenError if it, or a later one, was used."""
        # Without a key, because keys rotate. The secret is random, so nobody guesses it from its hash.
        hashed = hashlib.sha256(tmatch.totp.hex_key.encode()).hexdigest()
        code = {"secret": hashed, "counter": tmatch.counter}
        is_newer = UsedCode.counter < tmatch.counter
        insert = inserts[db.engine.dialect.name](UsedCode).values(code)
        upsert = insert.on_conflict_do_update(index_elements=["secret"], set_=code, where=is_newer)
        # The row count of an INSERT is -1 on PostgreSQL.
        if db.session.scalar(upsert.returning(UsedCode.secret)) is None:
            raise UsedTokenError
        db.session.commit()  # because some views of Flask-Security do not


def _as_printed(typed: Any) -> str:
    """Return a recovery code as it was printed, however it was typed: 17FA 7ceb90f2 is 17fa-7ceb-90f2."""
    text = plain(str(typed or ""))
    digits = re.sub(r"[\W_]", "", text).lower()
    return "-".join(re.findall("....", digits)) if re.fullmatch("[0-9a-f]{12}", digits) else text


class RecoveryCodeForm(MfRecoveryForm):
    """Flask-Security's form for a recovery code."""

    code = StringField(validators=MfRecoveryForm.code.kwargs["validators"], filters=[_as_printed])


def is_code(typed: str) -> bool:
    """True if the text has six digits and no letters, as codes do, with or without separators."""
    return re.fullmatch(r"\W*(\d\W*){6}", typed) is not None


class RescueForm(TwoFactorRescueForm):
    """Flask-Security's rescue form, which offers to tell the operator where one is configured."""

    help_setup = RadioField(_l("Lost your device or can't get a code?"), choices=[])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if current().RECOVERY_OPERATOR and current().sends_mail:
            self.help_setup.choices = [SelectChoice("help", _l("Ask support for help"))]


class PasskeyForm(WebAuthnSigninResponseForm):
    """Flask-Security's, but a second factor only of the account whose password was entered."""

    def validate(self, **kwargs: Any) -> bool:
        valid = bool(super().validate(**kwargs))
        if valid and self.is_secondary and getattr(self.user, "fs_uniquifier", "") != session["tf_user_id"]:
            self.credential.errors = [get_message("WEBAUTHN_CREDENTIAL_WRONG_USAGE")[0]]
        return valid and not self.credential.errors


class SignInCodesForm(UnifiedSigninSetupForm):
    """Flask-Security's set-up of codes for sign-in, which would fail on the password, or a method twice."""

    def validate_delete_method(self, field: SelectMultipleField) -> None:
        field.data = list(dict.fromkeys(field.data or ()))
        if not set(field.data) <= dict(field.choices).keys():
            raise ValidationError(get_message("US_METHOD_NOT_AVAILABLE")[0])


class FileSender(SmsSenderBaseClass):
    """An SMS sender that writes to `sms.txt` in the instance folder, for tests and trials."""

    def send_sms(self, from_number: str, to_number: str, msg: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {from_number} {to_number} {msg}\n"
        with Path(current_app.instance_path, "sms.txt").open("a", encoding="utf-8") as file:
            file.write(line)


def init_app(app: Flask, settings: Settings) -> None:
    """Register FileSender and the operator's SMS sender ("module:Class"). Raises SettingsError."""
    SmsSenderFactory.senders["file"] = FileSender
    if ":" in (service := settings.SECURITY_SMS_SERVICE):
        sender = extensions.resolve(settings, "SECURITY_SMS_SERVICE", service, SmsSenderBaseClass)
        SmsSenderFactory.senders[service] = sender


def guard_factor_setup(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a view so that a half-finished sign-in sets up a second factor only if the account has none."""

    def guarded_view(*args: Any, **kwargs: Any) -> Any:
        is_signed_in = is_user_authenticated(current_user)
        if is_signed_in and request.endpoint == "security.two_factor_token_validation":
            return redirect(url_for("security.two_factor_setup"))  # whose token names the account
        if not is_signed_in and session.get("tf_state") != "ready":
            user = _security.datastore.find_user(fs_uniquifier=session.get("tf_user_id", ""))
            if user is not None and _security.two_factor_plugins.get_setup_tf_methods(user):
                tf_clean_session()
        return view(*args, **kwargs)

    return guarded_view
