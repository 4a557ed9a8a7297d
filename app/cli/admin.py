"""The admin who runs a command, its event in the audit trail, and the account it names."""

from __future__ import annotations

import os
import pwd

import click

from ..accounts import datastore
from ..accounts.models import User
from ..db import audit
from ..db.engine import db

REASON_LENGTH_MAX = 255  # of an event


def actor() -> str:
    """Return "by" and the admin's system user name. Names in the environment can be forged."""
    number = os.getuid()
    try:
        return f"by {pwd.getpwuid(number).pw_name}"
    except KeyError:  # usual in containers
        return f"by uid {number}"


def record(command: str, details: str = "", user: User | None = None) -> None:
    """Commit the command's changes together with an event that names the admin."""
    reason = f"{command} {actor()}" + (f": {details}" if details else "")
    audit.record("admin", reason=reason[:REASON_LENGTH_MAX], user_id=user.id if user else None)
    db.session.commit()


def find_account(identity: str) -> User | None:
    """Return the account with this identity or with this id, written as #7. None if there is none."""
    by_id = datastore.find_account_by_id(identity[1:]) if identity.startswith("#") else None
    return by_id or datastore.find_account(identity)


def get_account(identity: str) -> User:
    """Return the account that `find_account` finds. Raises ClickException for none."""
    user = find_account(identity)
    if user is None:
        raise click.ClickException("no account has this identity")
    return user
