"""Whom a command is about: an identity, or #7 for the account of that number, as events call it."""

from __future__ import annotations

import click

from ..accounts.datastore import find_account
from ..accounts.models import User
from ..db.engine import db


def find(name: str) -> User | None:
    if name.startswith("#") and name[1:].isdecimal():
        return db.session.get(User, min(int(name[1:]), 2**31 - 1))
    return find_account(name)


def account_of(name: str) -> User:
    """Raises click's error when nobody has it."""
    user = find(name)
    if user is None:
        raise click.ClickException("no account has this identity")
    return user
