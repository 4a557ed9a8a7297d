"""What somebody who is not known asks for is noted, and nothing else is done while they wait."""

from __future__ import annotations

from typing import Any

from . import audit, health, outbox, together
from .askings import same_as
from .errors import NoMail
from .settings import current


def leave(mail: str, content: dict[str, Any], about: str = "identity") -> None:
    """Leave a message for the worker, who finds out whether it is for anybody. Commits. Raises NoMail.

    `about`: what of the content says for whom. Whoever asks for the same for the same adds no message.
    """
    if not current().sends_mail:
        raise NoMail(current().RECOVERY_SUPPORT_CONTACT)
    event = audit.entry("requested", reason=mail, client=content["client"])
    writes: list[together.Write] = [(audit.INSERT, event.row)]
    if not health.is_full():
        writes.append(outbox.written(mail, same=same_as(mail, content[about]), **content))
    together.write(*writes)
    audit.say(event)
