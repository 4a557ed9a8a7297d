"""The admin who types a command, the event it leaves, and the account it is about."""

from __future__ import annotations

import os
import pwd

import click

from ..accounts.datastore import find_account
from ..accounts.models import User
from ..db import audit
from ..db.engine import db

REASON_LENGTH_MAX = 255  # of an event


def actor() -> str:
    """Return the system's name for the admin, because names in the environment can be made up."""
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


def find(identity: str) -> User | None:
    """Return the account with this identity, or with the number of an identity such as #7."""
    if identity.startswith("#") and identity[1:].isdecimal():
        return db.session.get(User, min(int(identity[1:]), 2**31 - 1))
    return find_account(identity)


def account_of(identity: str) -> User:
    """Return the account, as `find` does. Raises click's error if there is none."""
    user = find(identity)
    if user is None:
        raise click.ClickException("no account has this identity")
    return user
