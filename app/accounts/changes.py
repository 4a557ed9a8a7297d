"""Changes of an account: its address, password, factors, state and roles.

A transaction that makes some leaves an event for each and sends `account_changed`, whatever made them: a
page, a command, or an extension. Only statements that bypass the ORM, as imports do, are not noticed.
"""

import json
import re
from contextlib import suppress
from typing import Any

from blinker import Signal
from flask_security.proxies import _datastore
from sqlalchemy import bindparam, event, inspect, select
from sqlalchemy.orm import Session

from ..db import audit
from ..db.engine import db
from .models import User, WebAuthn

# By an account, with what it was before, the action, place, method and name of each change, and if its
# sessions have ended.
account_changed = Signal()
WATCHED = re.compile(
    "(second_)?email|password|active|confirmed_at|contested_email|fs_uniquifier|roles|(tf|us|mf)_.*"
)
SECOND = "second_address"  # a place
# The kind of event, by the beginning of the place. Any other place holds a factor.
KINDS = dict.fromkeys(("active", "confirmed", "frozen", "role"), "account_changed")
KINDS |= {"address": "address_changed", SECOND: "address_changed", "password": "password_changed"}
# A row for each pair of an account's passkeys and roles. Built once, because every change executes it twice.
_names = ("user", "webauthn", "roles_users", "role")
_user, _passkey, _pair, _role = (db.metadata.tables[name] for name in _names)
STORED = (
    select(_user, _passkey.c.name, _passkey.c.credential_id, _role.c.name)
    .select_from(_user.outerjoin(_passkey).outerjoin(_pair).outerjoin(_role))  # by their foreign keys
    .where(_user.c.id == bindparam("user_id"))
)


@event.listens_for(db.session, "before_flush")
def _note_accounts(session: Session, *_: Any) -> None:
    """Note accounts before they change, because Flask-Security does not signal each change."""
    noted = session.info.setdefault("accounts", {})
    for row in (*session.new, *session.dirty, *session.deleted):
        user = row.user if isinstance(row, WebAuthn) else row
        if isinstance(user, User) and inspect(user).persistent and user.id not in noted:
            changed = [column.key for column in inspect(user).attrs if column.history.has_changes()]
            if user is not row or user.external_id or any(map(WATCHED.fullmatch, changed)):
                noted[user.id] = (user, *_stored(user.id))  # kept, because a stub knows its new password


@event.listens_for(db.session, "before_commit")
def _report_changes(session: Session) -> None:
    session.flush()
    for user_id, (user, before, uniquifier) in session.info.pop("accounts", {}).items():
        if inspect(user).persistent:  # not deleted
            after, changes = _stored(user_id)[0], []
            has_ended_sessions = user.fs_uniquifier != uniquifier
            if not has_ended_sessions:  # its password, if any, was only hashed anew
                after["password"] = before["password"]
            elif user.has_new_password:
                after["password"] = ("password", "", True)  # in the application's table
            for place in sorted(key for key in before | after if before.get(key) != after.get(key)):
                # New recovery codes are new keys to the account, even if there were others.
                is_new = place not in before or place == "recovery_codes"
                action = "removed" if place not in after else "added" if is_new else "changed"
                method, name, _ = after.get(place) or before[place]
                changes.append((action, place, method, name))
                kind = KINDS.get(place.partition(":")[0], "factor_changed")
                reason = f"{action} {method if is_factor(place) else place}"
                audit.record(kind, reason=reason, user_id=user_id)
            if changes or has_ended_sessions:
                values = {"before": before, "changes": changes, "has_ended_sessions": has_ended_sessions}
                account_changed.send(user, **values)


def is_factor(place: str) -> bool:
    return place.partition(":")[0] not in KINDS


def remove(user_id: int, place: str) -> None:
    """Remove the factor of an account at a place, if there is one."""
    user, (kind, _, name) = db.session.get_one(User, user_id), place.partition(":")
    if kind == "second_factor":
        _datastore.tf_reset(user)
    elif kind == "recovery_codes":
        _datastore.mf_set_recovery_codes(user, None)
    elif kind == "sign_in" and name in _datastore.us_get_totp_secrets(user):
        _datastore.us_reset(user, name)
    elif kind == SECOND:
        user.second_email = None
    for passkey in [key for key in user.webauthn if f"passkey:{key.name}" == place]:
        _datastore.delete_webauthn(passkey)


def _stored(user_id: int) -> tuple[dict[str, tuple[str, str, Any]], str]:
    """Return the account in the database by place (method, name, value), and its uniquifier."""
    rows = db.session.execute(STORED, {"user_id": user_id}).all()
    user = rows[0]
    columns = {"address": user.email, "active": user.active, "confirmed": bool(user.confirmed_at)}
    columns |= {"frozen": user.contested_email, "recovery_codes": list(user.mf_recovery_codes or ())}
    columns[SECOND] = user.second_email
    places = [(place, place, "", value) for place, value in columns.items()]
    places += [("second_factor", user.tf_primary_method, user.tf_phone_number, user.tf_totp_secret)]
    with suppress(ValueError, AttributeError):  # what cannot be read is no factor
        secrets = json.loads(user.us_totp_secrets or "{}")
        places += [
            (f"sign_in:{method}", method, user.us_phone_number, secret) for method, secret in secrets.items()
        ]
    for *_, passkey, key, role in rows:  # by place, because an identity kind may have any name
        places += [(f"passkey:{passkey}", "webauthn", passkey, key), (f"role:{role}", "role", role, role)]
    stored = {  # of mailed codes without the secret, which changes when earlier codes end
        place: (method, name if method in ("sms", "webauthn", "role") else "", method == "email" or value)
        for place, method, name, value in places
        if method and value
    }
    return {**stored, "password": ("password", "", user.password)}, user.fs_uniquifier
