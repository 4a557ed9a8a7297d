"""The factors of an account: its second factor, ways to sign in with a code, recovery codes and passkeys."""

from __future__ import annotations

import json
from typing import Any

from blinker import Signal
from flask_security.proxies import _datastore
from sqlalchemy import event, inspect, select
from sqlalchemy.orm import Session

from ..db import audit
from ..db.engine import db
from .models import User, WebAuthn

factors_changed = Signal()  # by an account, with the action, place, method and name of each change


@event.listens_for(db.session, "before_flush")
def _note_factors(session: Session, *_: Any) -> None:
    """Note an account's factors before they change, because Flask-Security does not signal each change."""
    noted = session.info.setdefault("factors", {})
    for row in (*session.new, *session.dirty, *session.deleted):
        user = row.user if isinstance(row, WebAuthn) else row
        if isinstance(user, User) and inspect(user).persistent and user.id not in noted:
            changed = [column.key for column in inspect(user).attrs if column.history.has_changes()]
            if user is not row or any(name.startswith(("tf_", "us_", "mf_")) for name in changed):
                noted[user.id] = _stored(user.id)


@event.listens_for(db.session, "before_commit")
def _report_changes(session: Session) -> None:
    session.flush()
    for user_id, before in session.info.pop("factors", {}).items():
        if user := session.get(User, user_id):  # not deleted
            after, changes = _stored(user_id), []
            for place in sorted(key for key in before | after if before.get(key) != after.get(key)):
                # New recovery codes are new keys to the account, even if there were others.
                is_new = place not in before or place == "recovery_codes"
                action = "removed" if place not in after else "added" if is_new else "changed"
                method, name, _ = after.get(place) or before[place]
                changes.append((action, place, method, name))
                audit.record("factor_changed", reason=f"{action} {method}", user_id=user_id)
            if changes:
                factors_changed.send(user, changes=changes)


def remove(user_id: int, place: str) -> None:
    """Remove the factor of an account at a place, if there is one."""
    user, (kind, _, name) = db.session.get_one(User, user_id), place.partition(":")
    if kind == "second_factor":
        _datastore.tf_reset(user)
    elif kind == "recovery_codes":
        _datastore.mf_set_recovery_codes(user, None)
    elif kind == "sign_in" and name in _datastore.us_get_totp_secrets(user):
        _datastore.us_reset(user, name)
    for passkey in [key for key in user.webauthn if f"passkey:{key.name}" == place]:
        _datastore.delete_webauthn(passkey)


def _stored(user_id: int) -> dict[str, tuple[str, str, Any]]:
    """Return the factors in the database by place: method, name or phone number, secret."""
    user = db.session.execute(select(User.__table__).where(User.id == user_id)).one()
    secrets = json.loads(user.us_totp_secrets or "{}").items()
    codes = [(f"sign_in:{method}", method, user.us_phone_number, secret) for method, secret in secrets]
    codes += [("second_factor", user.tf_primary_method, user.tf_phone_number, user.tf_totp_secret)]
    codes += [("recovery_codes", "recovery_codes", "", list(user.mf_recovery_codes or ()))]
    passkeys = select(WebAuthn.name, WebAuthn.credential_id).where(WebAuthn.user_id == user_id)
    return {
        place: (method, phone if method == "sms" else "", secret)
        for place, method, phone, secret in codes
        if method and secret
    } | {f"passkey:{name}": ("webauthn", name, key) for name, key in db.session.execute(passkeys)}
