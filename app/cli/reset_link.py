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
from ..recovery import issuing
from ..recovery.link import ResetLink, derive_tokens
from ..web import clients
from ..web.logging import redact_line
from . import admin
from .output import format_option, write_json

REASON_LENGTH_MAX = 150  # with the command and who typed it, it fits in an event
HOW_TO_HAND_IT_OVER = (
    "Whoever has this link can set the account's password: make sure that you talk to its owner, and give it"
    " to nobody else. Sparekey shows it only now."
)


def _said(_context: Any, _option: Any, reason: str) -> str:
    words = " ".join(reason.split())
    if not 0 < len(words) <= REASON_LENGTH_MAX:
        raise click.BadParameter(f"say in 1 to {REASON_LENGTH_MAX} characters why")
    return words


@click.command("reset-link")
@click.argument("identity")
@click.option(
    "--reason", required=True, callback=_said, help="For the audit trail: why, and how you know them."
)
@format_option
@with_appcontext
def reset_link(identity: str, reason: str, form: str) -> None:
    """Make a link to hand over, with a QR code. It works once, as mailed ones do."""
    user = admin.account_of(identity)
    if why_not := user.why_not_recoverable():
        raise click.ClickException(f"this account can not be recovered: {why_not}")
    token, link = _new_link(user, reason)
    url = url_for("security.reset_password", token=token, _external=True)
    if form == "json":
        write_json({"link": url, "account": user.email, "expires_at": link.expires_at})
        return
    click.echo(f"For {user.email}, once, until {link.expires_at:%Y-%m-%d %H:%M:%SZ}:\n\n{url}\n")
    click.echo(_as_qr_code(url))
    click.echo(HOW_TO_HAND_IT_OVER)


def _new_link(user: User, reason: str) -> tuple[str, ResetLink]:
    """Committed together with the event that says why."""
    # Two admins take turns here (PostgreSQL).
    db.session.execute(select(User.id).where(User.id == user.id).with_for_update())
    token = derive_tokens(secrets.token_bytes(32))[0]
    link = issuing.add(user, clients.BROWSER, token)
    admin.record("users reset-link", redact_line(reason), user)
    return token, link


def _as_qr_code(text: str) -> str:
    import qrcode  # of all that `users` does, only this needs it

    code, drawn = qrcode.QRCode(border=2), StringIO()
    code.add_data(text)
    code.print_ascii(out=drawn, invert=True)
    # In colours of its own: a terminal may be dark or light.
    lines = drawn.getvalue().splitlines()
    return "\n".join(click.style(line, fg="bright_white", bg="black") for line in lines)
