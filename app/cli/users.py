"""`manage.py users` and `roles`: Flask-Security's commands and Sparekey's. Each change leaves an event."""

from __future__ import annotations

import shlex
from functools import wraps
from typing import Any

import click
from flask.cli import with_appcontext
from flask_security import cli as flask_security_cli

from ..db.engine import db
from ..mail import outbox
from ..recovery import link as links
from ..recovery import not_me
from ..recovery.request import deduplication_key
from ..settings import current
from ..web import clients
from . import admin, import_users, reset_link, support
from .admin import get_account
from .output import format_option, write_json

users, roles = flask_security_cli.users, flask_security_cli.roles
REQUESTED = "A link has been requested. To see whether its mail goes out: manage.py users show {}"
HAND_OVER = 'To hand over a link: manage.py users reset-link {} --reason "..."'


@users.command("send-reset")
@click.argument("identity")
@with_appcontext
def send_reset(identity: str) -> None:
    """Email a reset link, as if the user had requested it. The admin sees neither link nor password."""
    user = get_account(identity)
    if not current().sends_mail:
        hint = HAND_OVER.format(shlex.quote(identity))
        raise click.ClickException(f"no mail is sent (MAIL_SERVER is empty). {hint}")
    _enqueue_reset(user.email)
    db.session.commit()
    click.echo(REQUESTED.format(shlex.quote(identity)))


@users.command()
@click.argument("identity")
@format_option
@with_appcontext
def show(identity: str, form: str) -> None:
    """Show why a user got no mail: account, links, messages, limits, events, and a conclusion."""
    report = support.report(identity)
    if form == "json":
        write_json(report)
    else:
        support.write(report)


@users.command("force-reset")
@click.argument("identity")
@with_appcontext
def force_reset(identity: str) -> None:
    """End the password, all sessions and all links of an account, and email a new link."""
    user = get_account(identity)
    links.revoke_all_of(user.id)
    not_me.end_access(user.id, with_password=True)
    _enqueue_reset(user.email)
    db.session.commit()
    click.echo("The password no longer works, and the account is signed out everywhere.")
    hint = REQUESTED if current().sends_mail else HAND_OVER
    click.echo(hint.format(shlex.quote(identity)))


def _enqueue_reset(identity: str) -> None:
    mail = "reset_instructions"
    outbox.enqueue(mail, same=deduplication_key(mail, identity), identity=identity, client=clients.BROWSER)


def _record_event_of(group: click.Group, command: click.Command) -> None:
    """Make the command leave an event after its work."""
    work: Any = command.callback

    @wraps(work)
    @with_appcontext
    def work_and_record(**options: Any) -> None:
        work(**options)
        if not options.get("dry_run"):
            # Flask-Security names accounts as `user`, and `users create` as email:... among attributes.
            names = [options.get("user"), options.get("identity"), *(options.get("attributes") or ())]
            accounts = (
                admin.find_account(str(name).partition(":")[2] or str(name)) for name in names if name
            )
            admin.record(f"{group.name} {command.name}", user=next(filter(None, accounts), None))

    command.callback = work_and_record


users.add_command(import_users.import_users)
for _group in (users, roles):
    for _command in _group.commands.values():
        if _command is not show:  # it changes nothing
            _record_event_of(_group, _command)
users.add_command(reset_link.reset_link)  # its event says why
