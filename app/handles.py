"""Links that are open in a browser: the token rests in its session, and a handle stands for it in the URL.

A handle works only in the browser that opened the link, so it is no secret: not in a log, not in a Referer.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from flask import session

from . import clients
from .errors import LinkInvalid

if TYPE_CHECKING:
    from flask import Response

HANDLES_MAX = 4  # links that may be open in one browser at once; the oldest goes first
MARK = "~"  # no token starts with it: tokens are base64url

UNKNOWN_HANDLE = (
    "Either your password is already changed, or the link was opened in another browser. "
    "To go on here, open the link in the mail again, and allow cookies for this site."
)


def remember(token: str) -> str:
    """Keep the token in this browser's session, and return the handle that stands for it."""
    handle = MARK + secrets.token_urlsafe(9)
    session["reset_links"] = [*_kept(), [handle, token]][-HANDLES_MAX:]
    return handle


def _kept() -> list[list[str]]:
    """Handles with their tokens, oldest first (a list: the session's JSON would sort a table)."""
    kept: list[list[str]] = session.get("reset_links", [])
    return kept


def token_behind(handle_or_token: str) -> str:
    if not handle_or_token.startswith(MARK):
        return handle_or_token
    token = dict(_kept()).get(handle_or_token)
    if token is None:
        raise LinkInvalid(UNKNOWN_HANDLE).about(None, clients.BROWSER)
    return token


def forget(handle: str, client: str, response: Response) -> Response:
    """Once its link is spent. A commit that failed keeps the handle: the link still works."""
    if response.status_code < 400 and handle.startswith(MARK):
        session["reset_links"] = [pair for pair in _kept() if pair[0] != handle]
        session["reset_done"] = client
    return response
