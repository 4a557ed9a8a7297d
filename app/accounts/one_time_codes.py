"""One-time codes: each works once, and how they reach a telephone."""

from __future__ import annotations

import importlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flask import Flask, current_app, session
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_security import SmsSenderBaseClass, SmsSenderFactory, Totp, TwoFactorRescueForm, current_user
from flask_security.proxies import _security
from flask_security.tf_plugin import tf_clean_session
from wtforms import RadioField
from wtforms.fields.choices import SelectChoice

from ..settings import current
from ..settings.problems import Problem, SettingsError
from ..settings.schema import Settings
from ..web import rate_limits

FILE = "file"
CODE_LENGTH = 6  # RFC 6238, and what apps show
SETTING = "SECURITY_SMS_SERVICE"


class OnceOnly(Totp):
    """Flask-Security's codes. It would take one again as long as it is valid, which RFC 6238 §5.2 forbids."""

    def verify_totp(self, token: str, totp_secret: str, user: Any, window: int = 0) -> bool:
        if not super().verify_totp(token, totp_secret, user, window):
            return False
        token = self._totp.normalize_token(token)  # however it was typed
        return rate_limits.is_first(f"{totp_secret} {token}", 2 * window + 2 * self._totp.period)


def is_code(typed: str) -> bool:
    """Whether it has the shape of one, however it is written."""
    return len(re.sub(r"\D", "", typed)) == CODE_LENGTH and not re.search(r"[^\W\d]", typed)


class RescueForm(TwoFactorRescueForm):
    """Whoever has lost the second factor may tell the operator, if there is one, or use a recovery code."""

    help_setup = RadioField(_l("No code, or the device is lost?"), choices=[])

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if current().RECOVERY_OPERATOR and current().sends_mail:
            self.help_setup.choices = [SelectChoice("help", _l("Tell whoever runs this site"))]


class FileSender(SmsSenderBaseClass):
    """Writes what would be sent to `sms.txt` in the instance folder: for tests, and for trying it out."""

    def send_sms(self, from_number: str, to_number: str, msg: str) -> None:
        line = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {from_number} {to_number} {msg}\n"
        with Path(current_app.instance_path, "sms.txt").open("a", encoding="utf-8") as file:
            file.write(line)


def init_app(app: Flask, settings: Settings) -> None:
    """Name our sender, or the admin's, to Flask-Security. Raises SettingsError."""
    SmsSenderFactory.senders[FILE] = FileSender
    service = str(app.config.get(SETTING) or "")
    if ":" in service:
        module, _, name = service.partition(":")
        try:
            sender = getattr(importlib.import_module(module), name)
            if not callable(getattr(sender, "send_sms", None)):
                raise TypeError(f"{name} has no send_sms")
        except Exception as error:  # whatever their module raises
            said = f"can not be imported: {type(error).__name__}: {error}"
            raise SettingsError([Problem(SETTING, settings.origins.get(SETTING, ""), said)]) from None
        SmsSenderFactory.senders[service] = sender


def only_the_first_factor(view: Any) -> Any:
    """Who is half in sets up a factor only where there is none: no old session replaces the owner's."""

    def guarded(*args: Any, **kwargs: Any) -> ResponseReturnValue:
        if not current_user.is_authenticated and session.get("tf_state") != "ready":
            user = _security.datastore.find_user(fs_uniquifier=session.get("tf_user_id", ""))
            if user is not None and user.tf_primary_method:
                tf_clean_session()
        answer: ResponseReturnValue = view(*args, **kwargs)
        return answer

    return guarded
