"""Links that are open in a browser: the token rests in its session, and a handle stands for it in the URL.

A handle works only in the browser that opened the link, so it is no secret: not in a log, not in a Referer.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from flask import request, session
from limits import parse_many

from ..settings import current
from ..web import clients
from ..web.rate_limits import counts, keyed_hash, limit, source
from .link import LinkError, LinkInvalid

HANDLES_MAX = 4  # links that may be open in one browser at once; the oldest goes first
MARK = "~"  # no token starts with it: tokens are base64url
TRYING = "trying a link"
BAD_LINKS = "bad links"

UNKNOWN_HANDLE = (
    "Either your password is already changed, or the link was opened in another browser. "
    "To go on here, open the link in the mail again, and allow cookies for this site."
)


def is_handle(token: str) -> bool:
    return token.startswith(MARK)


def remember(token: str) -> str:
    """Keep the token in this browser's session, and return the handle that stands for it."""
    handle = MARK + secrets.token_urlsafe(9)
    session["reset_links"] = [*_opened(), [handle, token]][-HANDLES_MAX:]
    return handle


def token_behind(handle_or_token: str) -> str:
    """Return the token. Raises LinkInvalid for a handle that this browser does not have."""
    if not is_handle(handle_or_token):
        return handle_or_token
    token = dict(_opened()).get(handle_or_token)
    if token is None:
        raise LinkInvalid(UNKNOWN_HANDLE).about(None, clients.BROWSER)
    return token


def may_try_another_bad_link() -> bool:
    """Count a link that was not made here. Good links pass, whatever was opened from the same address."""
    items = parse_many(current().RECOVERY_LIMIT_BAD_LINKS)
    return all(counts().hit(item, source(), BAD_LINKS) for item in items)


def _opened() -> list[list[str]]:
    """Handles with their tokens, oldest first (a list: the session's JSON would sort a table)."""
    opened: list[list[str]] = session.get("reset_links", [])
    return opened


def _by_link() -> str:
    token = str((request.view_args or {}).get("token", ""))
    with suppress(LinkError):
        token = token_behind(token)
    return keyed_hash(token)


limit("security.reset_password", TRYING, "RECOVERY_LIMIT_LINK", _by_link)
