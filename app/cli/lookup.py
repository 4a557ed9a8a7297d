"""Whom a command is about."""

from __future__ import annotations

import click

from ..identities import find_account
from ..models import User


def account_of(identity: str) -> User:
    """Raises click's error when nobody has it."""
    user = find_account(identity)
    if user is None:
        raise click.ClickException("no account has this identity")
    return user
