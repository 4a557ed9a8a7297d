"""`manage.py users reset-link`: a link that an admin hands over, where mail can not help."""

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

REASON_LENGTH_MAX = 150  # with the command and who typed it, it fits in an event
HOW_TO_HAND_IT_OVER = (
    "Whoever has this link can set the account's password: make sure that you talk to its owner, and give it"
    " to nobody else. Sparekey shows it only now."
)


def _reason(_context: Any, _option: Any, typed: str) -> str:
    reason = " ".join(typed.split())
    if not 0 < len(reason) <= REASON_LENGTH_MAX:
        raise click.BadParameter(f"say in 1 to {REASON_LENGTH_MAX} characters why")
    return reason


@click.command("reset-link")
@click.argument("identity")
@click.option(
    "--reason", required=True, callback=_reason, help="For the audit trail: why, and how you know them."
)
@format_option
@with_appcontext
def reset_link(identity: str, reason: str, form: str) -> None:
    """Make a link to hand over, with a QR code. It works once, as mailed ones do."""
    user = admin.account_of(identity)
    if why_not := user.reason_not_recoverable():
        raise click.ClickException(f"this account can not be recovered: {why_not}")
    # Two admins take turns here (PostgreSQL).
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
    # In colours of its own: a terminal may be dark or light.
    return "\n".join(
        click.style(line, fg="bright_white", bg="black") for line in drawn.getvalue().splitlines()
    )
