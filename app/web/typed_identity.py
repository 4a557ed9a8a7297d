"""The identity that was typed for the last email from this browser.

The page after the request shows it. It comes from the browser's own session, encrypted, and never from the
database: so it is the same for everyone, and no cookie names an account.
"""

import time
from contextlib import suppress
from math import ceil
from typing import Any

from flask import request, session, url_for
from werkzeug.routing import BuildError

from ..db import encryption
from ..settings import current

KEY = "last_request"  # in the session


def remember(typed: str, field: str = "identity") -> None:
    """Remember what was typed, and in which field of the form."""
    request_ = {"endpoint": request.endpoint, "field": field, "typed": typed, "at": time.time()}
    session[KEY] = encryption.encrypt(request_)


def find() -> dict[str, Any] | None:
    """Return what was typed, the form it can be sent again with, and the seconds to wait, or None."""
    with suppress(encryption.DecryptionError, BuildError):  # the feature of that form is off now
        last = encryption.decrypt(session.get(KEY))
        age = time.time() - last["at"]
        if age < current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds():
            wait = max(0, ceil(current().RECOVERY_MAIL_COOLDOWN.total_seconds() - age))
            return {"url": url_for(last["endpoint"]), "wait": wait, **last}
    return None
