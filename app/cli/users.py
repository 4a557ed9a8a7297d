"""`manage.py users` and `roles`: Flask-Security's commands and Sparekey's. Each change leaves an event."""

import secrets
import shlex
import sys
from typing import Any

import click
from flask import url_for
from flask.cli import with_appcontext
from flask_security import cli as flask_security_cli
from flask_security.confirmable import confirm_user
from sqlalchemy import select

from ..accounts.datastore import confirm_existing, end_access
from ..accounts.identities import IdentityError
from ..accounts.models import User
from ..db.engine import db
from ..mail import outbox
from ..mail.quota import BY_ADMIN, RESET
from ..recovery import address_change, link as links
from ..recovery.request import deduplication_key
from ..settings import current
from ..web import clients
from ..web.logging import redact_line
from . import admin, import_users, invite_users, users_show
from .admin import get_account
from .outbox import reason_all_held
from .output import as_time, format_option, plain, write_json

users, roles = flask_security_cli.users, flask_security_cli.roles
REQUESTED = "A link has been requested. To see whether its email goes out, run: manage.py users show {}"
HAND_OVER = 'To hand over a link, run: manage.py users reset-link {} --reason "..."'
REASON_LENGTH_MAX = 150  # with the command and the admin's name, it fits in an event
HOW_TO_HAND_IT_OVER = (
    "Anyone with this link can set the account's password. Make sure that you are talking to its owner, and"
    " give the link to no one else. It is shown only once."
)


@users.command("send-reset")
@click.argument("identity")
def send_reset(identity: str) -> None:
    """Email a reset link, as if the user had requested it. The admin sees neither link nor password."""
    _enqueue_reset(identity)
    db.session.commit()
    click.echo(REQUESTED.format(shlex.quote(identity)))


@users.command()
@click.argument("identity")
@format_option
@with_appcontext
def show(identity: str, form: str) -> None:
    """Show why a user got no email: account, links, messages, limits, events, and a conclusion."""
    report = users_show.report(identity)
    if form == "json":
        write_json(report)
    else:
        users_show.write(report)


@users.command("force-reset")
@click.argument("identity")
@click.option(
    "--without-mail", is_flag=True, help="Do not email a link, for example because mail cannot be sent."
)
def force_reset(identity: str, without_mail: bool) -> None:
    """End the password, all sessions, and all links of an account, and email a new link."""
    user = get_account(identity) if without_mail else _enqueue_reset(identity)
    links.revoke_all_of(user.id)
    end_access(user.id, with_password=True)
    db.session.commit()
    click.echo("The password no longer works, and the account is signed out everywhere.")
    click.echo((HAND_OVER if without_mail else REQUESTED).format(shlex.quote(identity)))


@users.command("settle-address")
@click.argument("identity")
@click.option("--keep", type=click.Choice(["old", "new"]), required=True, help="The owner's address.")
def settle_address(identity: str, keep: str) -> None:
    """End the freeze after an objection to a new address. "old" ends all access: send-reset is next."""
    user = get_account(identity)
    if user.contested_email is None:
        raise click.ClickException("this account is not frozen")
    other = keep == "old" and admin.find_account(user.contested_email)
    if other and not address_change.gives_way(other):
        raise click.ClickException("another account now has the old address")
    address_change.settle(user, keep)
    db.session.commit()
    click.echo(f"The account's address is {user.email}.")


@users.command("second-address")
@click.argument("identity")
@click.argument("address", required=False)
def set_second_address(identity: str, address: str | None) -> None:
    """Set the second address of an account and mark it as confirmed. Without ADDRESS, remove it."""
    user = get_account(identity)
    if not current().RECOVERY_SECOND_ADDRESS:
        raise click.ClickException("accounts have no second address (RECOVERY_SECOND_ADDRESS)")
    try:
        user.second_email = address
    except IdentityError:
        raise click.UsageError(f"{address} is not an email address") from None
    db.session.commit()
    click.echo(f"Notices go to {' and '.join(filter(None, (user.email, user.second_email)))}.")


@users.command()
@click.argument("identity", required=False)
@click.option(
    "--all-existing", is_flag=True, help="All accounts except sign-ups. Their owners are not notified."
)
def confirm(identity: str | None, all_existing: bool) -> None:
    """Confirm the address of an account that is older than SECURITY_CONFIRMABLE."""
    if (identity is None) == (not all_existing):
        raise click.UsageError("give an identity, or --all-existing")
    count = confirm_existing() if identity is None else int(confirm_user(get_account(identity)))
    db.session.commit()
    click.echo(f"{count} address{'es' * (count != 1)} confirmed")


def _enqueue_reset(identity: str) -> User:
    """Email a link, past cool-down and cap. Return the account. Raises ClickException if none can go out."""
    user = get_account(identity)
    why_not, held = user.reason_not_recoverable(), reason_all_held()
    if not current().sends_mail:
        held = "no mail is sent (MAIL_SERVER is empty)"
    if why_not or held:
        hint = "" if why_not else f" {HAND_OVER.format(shlex.quote(identity))}"
        raise click.ClickException(f"cannot email a link: {why_not or held}. Nothing was changed.{hint}")
    key, values = deduplication_key(RESET, f"#{user.id}", BY_ADMIN), {"client": clients.BROWSER}
    outbox.enqueue(RESET, user_id=user.id, same=key, quota=BY_ADMIN, account=user.id, **values)
    return user


def _reason(_context: Any, _option: Any, typed: str) -> str:
    reason = " ".join(typed.split())
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise click.BadParameter(f"give a reason of 1 to {REASON_LENGTH_MAX} characters")
    return reason


@users.command("reset-link")
@click.argument("identity")
@click.option(
    "--reason",
    required=True,
    callback=_reason,
    help="For the audit trail: why, and how you verified the owner.",
)
@format_option
@with_appcontext
def create_reset_link(identity: str, reason: str, form: str) -> None:
    """Create a link to hand over, with a QR code. Like an emailed link, it works once."""
    import qrcode  # of all that `users` does, only this needs it

    user = get_account(identity)
    if why_not := user.reason_not_recoverable():
        raise click.ClickException(f"this account cannot be recovered: {why_not}")
    # The row lock makes two admins take turns on PostgreSQL.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    token = links.derive_tokens(secrets.token_bytes(32))[0]
    link = links.issue(user, clients.BROWSER, token, user.link_life)
    admin.record("users reset-link", redact_line(reason), user)  # commits the link, too
    url = url_for("security.reset_password", token=token, _external=True)
    if form == "json":
        write_json({"link": url, "account": user.email, "expires_at": link.expires_at})
        return
    click.echo(f"For {plain(user.email)}, works once, until {as_time(link.expires_at)}:\n\n{url}\n")
    code = qrcode.QRCode(border=2)
    code.add_data(url)
    code.print_ascii(invert=True, tty=sys.stdout.isatty())  # a terminal, dark or light, gets fixed colors
    click.echo(HOW_TO_HAND_IT_OVER)


users.add_command(import_users.import_users)
users.add_command(invite_users.invite)
# Flask-Security's examples have a password that is too short here.
users.commands["create"].epilog = "Example: manage.py users create email:me@example.com username:me --active"
for _group in (users, roles):
    for _command in _group.commands.values():
        if _command not in (show, create_reset_link):  # it changes nothing, or records why
            admin.record_event_of(_group, _command)
