"""The admin who runs a command, its event in the audit trail, and the account it names."""

import os
import pwd
from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext

from ..accounts.datastore import find_accounts
from ..accounts.identities import identity_columns
from ..accounts.models import User
from ..db import audit
from ..db.engine import db
from ..settings import current
from .output import plain

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
    """Return the account with this identity or with this id, written as #7. None if there is none.

    Raises ClickException for several, which only an application's table can have.
    """
    if identity.startswith("#") and identity[1:].isdecimal():
        return db.session.get(User, min(int(identity[1:]), 2**31 - 1))
    users = find_accounts(identity)
    if len(users) > 1:
        named = ", ".join(f"'#{user.id}' ({plain(user.email)})" for user in users)
        raise click.ClickException(f"several accounts have this identity; give one of {named}")
    return users[0] if users else None


def get_account(identity: str) -> User:
    """Return the account that `find_account` finds. Raises ClickException for none."""
    user = find_account(identity)
    if user is None:
        raise click.ClickException("no account has this identity")
    return user


def _check_attributes(attributes: tuple[str, ...]) -> None:
    """Raise UsageError for those of `users create` that Flask-Security refuses without a reason."""
    for kind, _colon, value in (text.rpartition(":") for text in attributes):
        if ":" in kind:
            raise click.UsageError("write a time without colons, such as confirmed_at:20260131T120000Z")
        if kind and kind not in User.__mapper__.columns:
            raise click.UsageError(f"{kind}: accounts have no such attribute")
        try:
            User(**{kind or "email": value})  # its validators say why
        except ValueError as error:
            raise click.UsageError(str(error)) from None


def record_event_of(group: click.Group, command: click.Command) -> None:
    """Make the command leave an event, and take --quiet. Most are refused for accounts of an application."""
    work: Any = command.callback

    @wraps(work)
    @with_appcontext
    def work_and_record(quiet: bool = False, **options: Any) -> None:
        if current().RECOVERY_ACCOUNTS and command.name not in ("send-reset", "force-reset"):
            raise click.ClickException(
                "the accounts are in your application, so do this there (RECOVERY_ACCOUNTS)"
            )
        if command.name == "create":
            _check_attributes(options.get("attributes") or ())
        if command.name == "add" and options["role"] in get_account(options["user"]).roles:
            raise click.ClickException("the account has this role already")
        db.session().info["quiet"] = quiet
        work(**options)
        if not options.get("dry_run"):
            # Flask-Security names accounts as `user`, and `users create` as email:... among attributes.
            parts = (text.rpartition(":") for text in options.get("attributes") or ())
            identities = [value for kind, _colon, value in parts if kind in {"", *identity_columns()}]
            names = filter(None, [options.get("user"), options.get("identity"), *identities])
            accounts = map(find_account, names)
            record(f"{group.name} {command.name}", user=next(filter(None, accounts), None))

    command.callback = work_and_record
    command.params.append(click.Option(["--quiet"], is_flag=True, help="Do not notify the owner."))
