"""Flask-Security's `users` and `roles`, and ours. What an admin does there is an event."""

from __future__ import annotations

from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext
from flask_security import cli as flask_security_cli

from .. import audit, clients, outbox
from ..askings import same_as
from ..db import db
from ..identities import find_account

users, roles = flask_security_cli.users, flask_security_cli.roles


@users.command("send-reset")
@click.argument("identity")
@with_appcontext
def send_reset(identity: str) -> None:
    """Mail somebody a link, as if they had asked. Whoever helps never sees the link or the password."""
    if find_account(identity) is None:
        raise click.ClickException("no account has this identity")
    mail = "reset_instructions"
    outbox.enqueue(mail, same=same_as(mail, identity), identity=identity, client=clients.BROWSER)
    db.session.commit()
    click.echo("A mail with a link is on its way; `outbox list --identity` tells what becomes of it.")


def _recorded(group: str, command: click.Command) -> None:
    """Let the command leave an event once it has done what it does."""
    act: Any = command.callback

    @wraps(act)
    @with_appcontext
    def act_and_record(**given: Any) -> Any:
        done = act(**given)
        names = [given.get("user"), given.get("identity"), *(given.get("attributes") or ())]
        found = (find_account(str(name).partition(":")[2] or str(name)) for name in names if name)
        user = next((account for account in found if account), None)
        what = f"{group} {command.name} {audit.whoever()}"
        audit.record("admin", reason=what[:255], user_id=user.id if user else None)
        db.session.commit()
        return done

    command.callback = act_and_record


for _group in (users, roles):
    for _command in _group.commands.values():
        _recorded(str(_group.name), _command)
