"""Flask-Security's `users` and `roles`, and ours. What an admin does there is an event."""

from __future__ import annotations

import shlex
from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext
from flask_security import cli as flask_security_cli

from ..db import audit
from ..db.engine import db
from ..mail import outbox
from ..recovery import link as links
from ..recovery import not_me
from ..recovery.link import ResetLink
from ..recovery.request import deduplication_key
from ..settings import current
from ..web import clients
from . import import_users, output, reset_link, support
from .lookup import account_of, find
from .output import format_option, write_json

users, roles = flask_security_cli.users, flask_security_cli.roles


@users.command("send-reset")
@click.argument("identity")
@with_appcontext
def send_reset(identity: str) -> None:
    """Mail somebody a link, as if they had asked. Whoever helps never sees the link or the password."""
    user = account_of(identity)
    if not current().sends_mail:
        raise click.ClickException(f"no mail is sent (MAIL_SERVER is empty). {_hand_over(identity)}")
    _enqueue_reset(user.email)
    db.session.commit()
    click.echo(_what_follows(identity))


@users.command()
@click.argument("identity")
@format_option
@with_appcontext
def show(identity: str, form: str) -> None:
    """Why did they not get the mail? Account, links, mails, limits and events, and what follows from them."""
    story = support.story_of(identity)
    if form == "json":
        write_json(story)
    else:
        support.write(story)


@users.command("force-reset")
@click.argument("identity")
@with_appcontext
def force_reset(identity: str) -> None:
    """End the password, every session and every link of an account, and mail its owner a new link."""
    user = account_of(identity)
    links.revoke(ResetLink.user_id == user.id)
    not_me.end_access(user.id, with_password=True)
    _enqueue_reset(user.email)
    db.session.commit()
    click.echo("The password works no longer, and the account is signed out everywhere.")
    click.echo(_what_follows(identity) if current().sends_mail else _hand_over(identity))


def _what_follows(identity: str) -> str:
    return f"A link is asked for. Whether its mail goes out: manage.py users show {shlex.quote(identity)}"


def _hand_over(identity: str) -> str:
    return f'To hand over a link: manage.py users reset-link {shlex.quote(identity)} --reason "..."'


def _enqueue_reset(identity: str) -> None:
    mail = "reset_instructions"
    outbox.enqueue(mail, same=deduplication_key(mail, identity), identity=identity, client=clients.BROWSER)


users.add_command(import_users.import_users)
users.add_command(reset_link.reset_link)


def _recorded(group: str, command: click.Command) -> None:
    """Let the command leave an event once it has done what it does."""
    act: Any = command.callback

    @wraps(act)
    @with_appcontext
    def act_and_record(**given: Any) -> Any:
        done = act(**given)
        if given.get("dry_run"):
            return done
        names = [given.get("user"), given.get("identity"), *(given.get("attributes") or ())]
        found = (find(str(name).partition(":")[2] or str(name)) for name in names if name)
        user = next((account for account in found if account), None)
        what = f"{group} {command.name} {output.whoever()}"
        audit.record("admin", reason=what[:255], user_id=user.id if user else None)
        db.session.commit()
        return done

    command.callback = act_and_record


for _group in (users, roles):
    for _command in _group.commands.values():
        if _command not in (show, reset_link.reset_link):  # changes nothing; says why in an event of its own
            _recorded(str(_group.name), _command)
