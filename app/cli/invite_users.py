"""`manage.py users invite`: an account without a password, whose owner chooses one with a mailed link."""

import shlex
from typing import Any, cast

import click
from flask_security import naive_utcnow
from flask_security.proxies import _datastore

from ..accounts.identities import IdentityError, identity_columns
from ..accounts.models import User
from ..db.engine import db
from ..mail import outbox
from ..mail.quota import BY_ADMIN, INVITATION
from ..settings import current
from ..web import clients
from .admin import find_account, get_account

NAME_LENGTH_MAX = 100
client_option = click.option(
    "--client", default=clients.BROWSER, help="The name of the front end that the link opens."
)


@click.command("invite")
@click.argument("attributes", nargs=-1, required=True)
@click.option("--name", default="", help="The name to greet the person by in the email.")
@click.option("--again", is_flag=True, help="Send the invitation again to an account that has not used it.")
@client_option
def invite(attributes: tuple[str, ...], name: str, again: bool, client: str) -> None:
    """Create an account without a password, and email a link to choose one.

    Attributes are written as email:carol@example.com, username:carol, language:de.
    """
    if again:
        user = get_account(attributes[0].removeprefix("email:"))
        if len(attributes) > 1 or not user.is_invited:
            raise click.ClickException("give one identity of an account that has not used its invitation")
    else:
        user = _create(attributes)
    enqueue([user.id], client, " ".join(name.split())[:NAME_LENGTH_MAX])
    db.session.commit()
    shown = shlex.quote(user.email)
    if current().sends_mail:
        click.echo(
            f"The invitation is queued. To see whether it has gone out, run: manage.py users show {shown}"
        )
    else:
        click.echo(f'To hand over the invitation, run: manage.py users reset-link {shown} --reason "..."')


def _create(attributes: tuple[str, ...]) -> User:
    parts = (text.rpartition(":") for text in attributes)
    values = {kind or "email": value for kind, _, value in parts}
    known = [*identity_columns(), "language"]
    if not values.get("email") or values.keys() - set(known):
        raise click.UsageError(f"give email:carol@example.com, and optionally others of {', '.join(known)}")
    try:
        return cast("User", _datastore.create_user(**values, password=None, invited_at=naive_utcnow()))
    except IdentityError as error:
        user = find_account(values["email"])
        hint = " (to send the invitation again, use --again)" if user and user.is_invited else ""
        raise click.ClickException(f"{error}{hint}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def enqueue(user_ids: list[int], client: str, name: str = "") -> None:
    """Queue the invitations of accounts, in the current transaction."""
    if client not in (known := [clients.BROWSER, clients.DEFAULT, *current().RECOVERY_CLIENTS]):
        raise click.UsageError(f"no such client; choose one of {', '.join(known)}")
    for user_id in user_ids:
        values: dict[str, Any] = {"account": user_id, "client": client, "name": name}
        outbox.enqueue(INVITATION, user_id=user_id, quota=BY_ADMIN, **values)
