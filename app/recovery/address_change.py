"""A contested change of address: recovery is frozen until it is clear whose account it is.

An old address alone neither recovers the account nor gets it back: it may be a former employer's, or the
hacked one that the owner has just left. A second factor that was FACTOR_AGE old at the change settles it, or
an admin.
"""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from flask_babel import lazy_gettext as _l
from flask_security.confirmable import requires_confirmation
from flask_security.proxies import _datastore, _security
from sqlalchemy import select, update

from ..accounts.datastore import end_access
from ..accounts.models import User
from ..db import audit
from ..db.audit import RecoveryEvent
from ..db.engine import change, db
from ..mail.outbox import KEPT, OutboxMessage
from ..settings import current
from ..web.errors import RequestError
from . import link as links

FACTOR_AGE = timedelta(hours=72)  # at the change, because a thief adds a factor first: time to object to it


class NoOlderFactor(RequestError):
    """A choice of the address by a user who has no second factor that may decide."""

    status = HTTPStatus.FORBIDDEN
    message = _l("Your second factors can't decide this. Please contact support.")


def contest(user: User, notice: OutboxMessage) -> tuple[str, bool]:
    """Freeze recovery if the address of the notice is no longer the account's.

    Return the state of the objection, and True if the password must go: who requested the change knew it, or
    it was set since.
    """
    address, password_state = notice.content["contested"], notice.content["password_state"]
    if user.email == address:
        return "done", True
    if user.contested_at is None or notice.created_at < user.contested_at:  # the earliest address counts
        user.contested_email, user.contested_at = address, notice.created_at
    return "frozen", links.fingerprint(user.password) != password_state


def has_older_factor(user: User) -> bool:
    """True if the account is frozen, and all its second factors were FACTOR_AGE old at the contested change.

    The objection has ended every session, so one that is signed in now has passed such a factor.
    """
    if user.contested_at is None or not _security.support_mfa:
        return False
    earliest = user.contested_at - FACTOR_AGE
    if datetime.now(UTC).replace(tzinfo=None) - earliest > current().RECOVERY_KEEP_EVENTS:
        return False  # its events may have been purged
    methods = dict(_security.two_factor_plugins.get_setup_tf_methods(user))
    event = RecoveryEvent
    since = (event.user_id == user.id, event.kind.startswith("factor_"), event.at >= earliest)
    is_changed = db.session.scalar(select(event.id).where(*since).limit(1)) is not None
    return bool(methods) and "email" not in methods and not is_changed  # codes by mail go to the new address


def gives_way(other: User) -> bool:
    """True for a sign-up that nobody has confirmed. An imported or created account never gives way."""
    sign_up = select(RecoveryEvent.id).filter_by(user_id=other.id, kind="registered")
    return requires_confirmation(other) and db.session.scalar(sign_up.limit(1)) is not None


def settle(user: User, keep: str) -> None:
    """End the freeze. The owner of the `old` address sets a new password."""
    if keep == "old":
        links.revoke_all_of(user.id)
        other: Any = _datastore.find_user(case_insensitive=True, email=user.contested_email)
        if other and gives_way(other):
            db.session.delete(other)
            db.session.flush()
        user.email, user.second_email = user.contested_email or user.email, None  # it may be a thief's
        end_access(user.id, with_password=True)
    user.contested_email = user.contested_at = None
    notices = (OutboxMessage.user_id == user.id, OutboxMessage.kind.in_(KEPT))
    sent = update(OutboxMessage).where(*notices, OutboxMessage.state == "sent")
    change(sent.values(sealed=None))  # earlier notices take no objection now
    audit.record("address_settled", reason=keep, user_id=user.id)
