"""Notices to the account's owner: every change of an account is told by mail, whatever makes it."""

from typing import Any

from flask import Flask
from flask_security import signals
from flask_security.proxies import _datastore
from sqlalchemy import select
from sqlalchemy.orm.exc import StaleDataError

from ..accounts.changes import SECOND, account_changed
from ..accounts.datastore import end_mailed_codes
from ..accounts.identities import mask_address
from ..accounts.models import User
from ..db import audit
from ..db.engine import db
from ..mail import composing, outbox, quota
from ..mail.composing import Undeliverable, composer
from ..mail.outbox import OutboxMessage
from ..settings import current
from ..web import user_agents
from . import link as links, not_me
from .link import ResetLink

TOLD_BY_KIND = ("address", "confirmed", "frozen", "password")  # places that other kinds do not list


def init_app(app: Flask) -> None:
    signals.change_email_instructions_sent.connect(on_address_requested, app)
    signals.change_email_confirmed.connect(on_address_proven, app)
    signals.user_confirmed.connect(on_address_proven, app)
    signals.user_authenticated.connect(on_sign_in, app)
    account_changed.connect(on_account_changed)


def enqueue(kind: str, user: User, recipient: str, address: str, **content: Any) -> None:
    """Queue a notice, in the current transaction. `address`: the account's, or that it is to have."""
    outbox.enqueue(
        kind,
        user_id=user.id,
        address=recipient,
        new_address=mask_address(address),
        password_state=links.fingerprint(user.password),
        **user_agents.requester(),
        **content,
    )


def on_account_changed(user: User, before: dict[str, Any], changes: list[tuple[str, ...]], **_: Any) -> None:
    """Tell the owner of all changes of a transaction, or both addresses while one contests the other.

    The second address is told, too, and so is one that was the second before. An account that becomes active
    again gets back none of its links.
    """
    places = {place for _, place, *_ in changes}
    if "active" in places and user.active:
        links.revoke_all_of(user.id)
    if not changes or db.session().info.get("quiet"):  # as an admin said
        return
    kind, recipients = "account_notice", {user.email}
    link, second_addresses = None, {user.second_email, before.get(SECOND, ("", "", None))[2]}
    if user.contested_email or "frozen" in places:
        kind = "address_frozen" if user.contested_email else "address_settled"
        recipients |= {before[place][2] for place in ("address", "frozen") if place in before}
        recipients.add(user.contested_email or user.email)
    elif "address" in places:
        kind, recipients = "address_notice", {before["address"][2]}
    elif "password" in places:
        written = ResetLink.password_written == links.fingerprint(user.password)
        link = db.session.scalar(select(ResetLink.id).where(ResetLink.user_id == user.id, written))
        kind = "reset_notice" if link else "change_notice"
    recipients |= second_addresses - {None} if current().RECOVERY_SECOND_ADDRESS else set()
    listed = [change for change in changes if kind == "account_notice" or change[1] not in TOLD_BY_KIND]
    for recipient in sorted(recipients):
        values = {"link": link, "is_done": True, "changes": listed, "contested": before["address"][2]}
        enqueue(kind, user, recipient, user.email, **values)


def on_address_requested(_app: Flask, user: User, new_email: str, **_: Any) -> None:
    second = user.second_email if current().RECOVERY_SECOND_ADDRESS else None
    for address in filter(None, (user.email, second)):
        values = {"is_done": False, "changes": [], "contested": user.email}
        enqueue("address_notice", user, address, new_email, quota=quota.of_address(address), **values)
    audit.record("address_requested", user_id=user.id)


def on_address_proven(_app: Flask, user: User, old_email: str | None = None, **_: Any) -> None:
    """End the links that change or confirm the address: they name the uniquifier, as sessions do.

    A change of address also ends reset links, and codes that went to the earlier address.
    """
    if old_email:
        links.revoke_all_of(user.id)
        end_mailed_codes(user)
    _datastore.set_uniquifier(user)


def on_sign_in(_app: Flask, user: User, **_: Any) -> None:
    audit.record("signed_in", user_id=user.id)


@composer("account_notice", "reset_notice", "change_notice", "operator_alert")
@composer("address_notice", "address_frozen", "address_settled")
def _notice(message: OutboxMessage) -> composing.Mail:
    """Compose a notice. The message holds its recipient and the values of its template."""
    if message.quota:
        quota.refuse_excess(message)
    content = {**message.content, "objection": not_me.token_for(message)}
    if (number := content.pop("link", None)) and (link := db.session.get(ResetLink, number)):
        # A crash may have lost the redemption (SQLite), or it was repeated after one.
        if link.is_lost and message.attempts == 1:
            raise StaleDataError("the password may be written in this moment")  # try again
        if link.is_lost or link.password_written != content["password_state"]:
            raise Undeliverable("the password was not written: the link works again")
    for name in ("language", "occurred_at", "password_state", "contested"):  # no variables of templates
        content.pop(name, None)
    return composing.write(message, message.kind, content["address"], **content)
