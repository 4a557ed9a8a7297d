"""`manage.py users reset-link`: a reset link for an admin to hand over, where no mail reaches the owner."""

from __future__ import annotations

import secrets
from io import StringIO
from typing import Any

import click
from flask import url_for
from flask.cli import with_appcontext
from sqlalchemy import select

from ..accounts.models import User
from ..db.engine import db
from ..recovery.link import derive_tokens, issue
from ..web import clients
from ..web.logging import redact_line
from . import admin
from .output import as_time, format_option, write_json

REASON_LENGTH_MAX = 150  # with the command and the admin's name, it fits in an event
HOW_TO_HAND_IT_OVER = (
    "Anyone with this link can set the account's password. Make sure that you are talking to its owner, and"
    " give the link to nobody else. It is shown only once."
)


def _reason(_context: Any, _option: Any, typed: str) -> str:
    reason = " ".join(typed.split())
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise click.BadParameter(f"give a reason of 1 to {REASON_LENGTH_MAX} characters")
    return reason


@click.command("reset-link")
@click.argument("identity")
@click.option(
    "--reason",
    required=True,
    callback=_reason,
    help="For the audit trail: why, and how you know the owner.",
)
@format_option
@with_appcontext
def reset_link(identity: str, reason: str, form: str) -> None:
    """Create a link to hand over, with a QR code. It works once, as emailed links do."""
    user = admin.get_account(identity)
    if why_not := user.reason_not_recoverable():
        raise click.ClickException(f"this account cannot be recovered: {why_not}")
    # The row lock makes two admins take turns on PostgreSQL.
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    token = derive_tokens(secrets.token_bytes(32))[0]
    link = issue(user, clients.BROWSER, token)
    admin.record("users reset-link", redact_line(reason), user)  # commits the link, too
    url = url_for("security.reset_password", token=token, _external=True)
    if form == "json":
        write_json({"link": url, "account": user.email, "expires_at": link.expires_at})
        return
    click.echo(f"For {user.email}, once, until {as_time(link.expires_at)}:\n\n{url}\n")
    click.echo(_qr_code(url))
    click.echo(HOW_TO_HAND_IT_OVER)


def _qr_code(text: str) -> str:
    import qrcode  # of all that `users` does, only this needs it

    code, drawn = qrcode.QRCode(border=2), StringIO()
    code.add_data(text)
    code.print_ascii(out=drawn, invert=True)
    # In fixed colors, because a terminal may be dark or light.
    return "\n".join(
        click.style(line, fg="bright_white", bg="black") for line in drawn.getvalue().splitlines()
    )
