"""Mail to the operator, if RECOVERY_OPERATOR is set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask_babel import gettext

from ..settings import current
from ..web import i18n
from . import outbox


def tell(what: str, *, user_id: int | None = None, **values: Any) -> None:
    """Mail it to the operator, in the current transaction.

    `what` is a sentence without personal data, with %(places)s for values. It is written in
    BABEL_DEFAULT_LOCALE, whatever the language of the request is.
    """
    if address := current().RECOVERY_OPERATOR:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with i18n.speaking(None):
            sentence = gettext(what, **values)
            outbox.enqueue("operator_alert", address=address, what=sentence, changed_at=at, account=user_id)
