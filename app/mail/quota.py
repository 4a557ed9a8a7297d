"""Mail quotas, for all mail and for one recipient. They hold for all workers together: the database counts.

While an hourly quota is exhausted, its mail waits before its account is looked up. So requests for known and
for unknown accounts wait alike. Over the daily cap of an account, one message of it is postponed.
"""

import logging
import math
import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import TextClause, bindparam, func, select, union_all

from ..accounts.identities import fold_address
from ..accounts.models import User
from ..db.clock import CLOCK_SLACK_SECONDS, instant
from ..db.encryption import keyed_hash
from ..db.engine import db
from ..settings import current
from .composing import Undeliverable
from .outbox import EXEMPT, INVITED, NOW, SIGN_UP, URGENT, OutboxMessage

log = logging.getLogger(__name__)

# Kinds of mail with an hourly quota each.
RESET, REGISTRATION, INVITATION = "reset_instructions", "registration", "invitation"
BY_ADMIN = "by an admin"  # the quota of what an admin sends: there is none
KNOWN_BROWSER = "known browser"  # the quota of a browser in which the account has signed in before
DAY_SECONDS = 86_400
PAUSE = timedelta(minutes=30)  # between two mails of an account that had those of its day
# Built once and on the table, because every request executes it. Without invitations, or an import of many
# would keep requests out.
_messages = OutboxMessage.__table__.c
_waiting = (select(_messages.id).where(_messages.state == "waiting", lane) for lane in (URGENT, SIGN_UP))
LAST_WAITING = union_all(*_waiting).limit(1).offset(bindparam("others"))
checks: list[Callable[[str], bool]] = []  # true while mail of a kind has to wait


def is_exhausted(kind: str) -> bool:
    """True while mail of this kind has to wait."""
    return any(check(kind) for check in checks)


def open_lanes() -> Iterator[TextClause]:
    """Yield the lanes of mail that may go out now, recovery first. Each is counted when its turn comes."""
    yield EXEMPT if is_exhausted(RESET) else URGENT
    others = {REGISTRATION: SIGN_UP, INVITATION: INVITED}.items()
    yield from (lane for kind, lane in others if not is_exhausted(kind))


def is_full(kind: str = RESET) -> bool:
    """True if RECOVERY_MAIL_WAITING_MAX messages wait, or half as many for other mail than a reset's."""
    limit = current().RECOVERY_MAIL_WAITING_MAX // (1 if kind == RESET else 2)
    if db.session.scalar(LAST_WAITING, {"others": max(0, limit - 1)}) is None:
        return False
    log.error("%s messages are waiting (RECOVERY_MAIL_WAITING_MAX): further requests are not stored", limit)
    return True


def of_address(address: str) -> str:
    """Return the name of the quota of an address that requesters typed, for all of them together."""
    return keyed_hash(f"mail to {fold_address(address)}")


def refuse_excess(
    message: OutboxMessage, *counted: Any, at: Any = None, works: Any = (), cooldown_max: float = math.inf
) -> None:
    """Raise Undeliverable within the cool-down after a counted mail, and over the daily cap.

    `counted`: selects the mails, by default those of the message's kind and quota. `at`: their time.
    `works`: selects those that still serve. Others start no cool-down, and count half for the cap.
    `cooldown_max`: the longest cool-down in seconds that makes sense for this kind.
    """
    if message.quota == BY_ADMIN:
        return
    siblings = [OutboxMessage.kind == message.kind, OutboxMessage.quota == message.quota]
    if message.quota in ("", KNOWN_BROWSER):  # not one of an address, which counts for all accounts
        siblings.append(OutboxMessage.user_id == message.user_id)
    if not counted:
        # On PostgreSQL, workers with two requests for one account take turns here. A link's issue did that.
        db.session.execute(select(User.id).where(User.id == message.user_id).with_for_update())
        at, counted = OutboxMessage.settled_at, (*siblings, OutboxMessage.state == "sent")
    settings = current()
    cooldown = min(cooldown_max, settings.RECOVERY_MAIL_COOLDOWN.total_seconds())
    recent = func.max(at).filter(at > instant(-cooldown), *works)
    doubled = func.count() + func.count().filter(*works)  # twice those that serve, once the others
    is_today = at.between(instant(-max(DAY_SECONDS, cooldown)), instant(CLOCK_SLACK_SECONDS))
    counts = select(recent, doubled, func.max(at), instant()).where(*counted, is_today)
    latest, doubled_count, newest, asked_at = db.session.execute(counts).one()
    is_capped = doubled_count >= 2 * settings.RECOVERY_MAIL_DAILY_CAP and newest + PAUSE > asked_at
    if latest:
        setting = "RECOVERY_MAIL_DAILY_CAP" if is_capped else "RECOVERY_MAIL_COOLDOWN"
        next_at = max(latest + timedelta(seconds=cooldown), newest + PAUSE if is_capped else latest)
        raise Undeliverable(f"there was one; the next can be at {next_at:%Y-%m-%d %H:%M:%SZ} ({setting})")
    if not is_capped:
        return
    postponed = (OutboxMessage.settled_at.is_(None), OutboxMessage.created_at > NOW)
    if db.session.scalar(select(OutboxMessage.id).where(*siblings, *postponed).limit(1)):
        raise Undeliverable("another email of this kind is already postponed (RECOVERY_MAIL_DAILY_CAP)")
    # At random, or the time between two others' mails would tell that this one was sent between them.
    until = newest + PAUSE * (random.uniform(1, 1.25) if message.id else 1)  # noqa: S311  # no secret
    raise Undeliverable(f"until {until:%Y-%m-%d %H:%M:%SZ}, after too many (RECOVERY_MAIL_DAILY_CAP)", until)
