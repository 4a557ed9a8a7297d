"""The login at the mail server: a password, or an access token of OAuth 2 (XOAUTH2).

The token is kept in memory, one for all threads, and renewed a minute before it ends. Authlib knows the
grants, and web/outgoing.py makes the calls.
"""

from __future__ import annotations

import json
import re
import smtplib
import threading
import time
from functools import cache, partial
from http.client import HTTPException
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPErrorProcessor, Request

from ..settings import current
from ..web import outgoing
from ..web.logging import redact_line
from .smtp_failures import NO_LOGIN_METHOD, RelayAway, RelayMisconfigured, describe

PREFIX = "RECOVERY_MAIL_OAUTH_"
URL, CLIENT = f"{PREFIX}URL", f"{PREFIX}CLIENT_SECRET, {PREFIX}CLIENT_ID"
# The settings that are likely at fault, by the token server's error code (RFC 6749 §5.2).
FAULTS = {"invalid_client": CLIENT, "unauthorized_client": CLIENT, "invalid_scope": f"{PREFIX}SCOPE"}
FAULTS["invalid_grant"] = f"{PREFIX}REFRESH_TOKEN"
VALUES = ("URL", "CLIENT_ID", "CLIENT_SECRET", "SCOPE", "REFRESH_TOKEN")  # in the order of _client()
ANSWER_BYTES_MAX = 64 * 1024
_lock = threading.Lock()  # one thread fetches the token, and the others wait for it


def log_in(relay: smtplib.SMTP, username: str, password: str, token: str | None) -> None:
    """Log in, by the token if there is one. Raises RelayMisconfigured, or an error of smtplib."""
    if token and "XOAUTH2" not in relay.esmtp_features.get("auth", "").upper().split():
        raise RelayMisconfigured(f"{URL}: the relay offers no login by OAuth (XOAUTH2) on this connection")
    try:
        if token is None:
            relay.login(username, password)
        else:  # some refuse by a second challenge, which an empty line answers
            answers = iter([f"user={username}\x01auth=Bearer {token}\x01\x01"])
            # Not in the line of AUTH, where Gmail and Dovecot refuse a long token (RFC 4954 §4).
            relay.auth("XOAUTH2", lambda _=None: next(answers, ""), initial_response_ok=False)
    except smtplib.SMTPNotSupportedError:
        raise
    except smtplib.SMTPResponseException as error:
        _client.cache_clear()  # the token may have been revoked
        if token is None or error.smtp_code < 500:
            raise
        status = re.search(r"\d[\d. ]*\d", describe(error))[0]  # type: ignore[index]  # the rest may repeat the token
        names = f"MAIL_USERNAME, {PREFIX}SCOPE, {CLIENT}"
        raise RelayMisconfigured(f"{names}: the relay refuses the token ({status})") from None
    except (smtplib.SMTPException, ValueError):  # the text may contain a part of the password
        raise RelayMisconfigured(NO_LOGIN_METHOD) from None


def access_token() -> str | None:
    """Return an access token, or None without RECOVERY_MAIL_OAUTH_URL. Raises MailHeld."""
    if not current().RECOVERY_MAIL_OAUTH_URL:
        return None
    try:
        with _lock:
            client = _client(*(getattr(current(), PREFIX + name) for name in VALUES))
            client.ensure_active_token()
            return str(client.token["access_token"])
    except (OSError, HTTPException) as error:
        raise RelayAway(f"{URL}: the token server cannot be reached ({describe(error)})") from None
    except (LookupError, TypeError, ValueError):
        _client.cache_clear()
        raise RelayMisconfigured(f"{URL}: the token server answers without a token") from None


@cache
def _client(url: str, client_id: str, client_secret: str, scope: str, refresh_token: str) -> Any:
    """Return Authlib's client, which keeps the token and renews it. It begins with one that has ended."""
    from authlib.oauth2 import OAuth2Client  # 9 MB that a web process does not need

    token = {"access_token": "", "refresh_token": refresh_token, "expires_at": 0}
    options = {"token_endpoint": url, "grant_type": "client_credentials", "scope": scope or None}
    # Not basic, because servers disagree on how a secret is quoted there (RFC 6749 §2.3.1).
    method = "client_secret_post" if client_secret else "none"
    session = SimpleNamespace(post=_post)
    client = OAuth2Client(session, client_id, client_secret, method, token=token, **options)
    client.oauth_error_class = _refusal  # its own forbids the line ends in Microsoft's descriptions
    return client


def _refusal(error: str, description: str | None) -> RelayMisconfigured:
    """Return the error for a token server that refuses. The configured refresh token is next."""
    _client.cache_clear()
    reason = redact_line(f"{error}: {description or ''}")[:200]
    return RelayMisconfigured(f"{FAULTS.get(error, URL)}: the token server said {reason}")


class _EveryStatus(HTTPErrorProcessor):
    def http_response(self, request: Request, response: Any) -> Any:  # a refusal has its reason in the body
        return response

    https_response = http_response


def _post(url: str, data: dict[str, str], headers: dict[str, str], auth: Any) -> SimpleNamespace:
    """Call the token server for Authlib, and return the parts of the answer that it reads."""
    url, headers, body = auth.prepare("POST", url, {**headers}, urlencode(data))
    call = Request(url, body.encode(), headers, method="POST")  # noqa: S310  # its type checks the scheme
    ends_at = time.monotonic() + current().MAIL_TIMEOUT.total_seconds()
    with outgoing.send(call, ends_at, _EveryStatus) as answer:
        if answer.status >= 500:
            raise OSError(f"HTTP status {answer.status}")
        load = partial(json.loads, answer.read(ANSWER_BYTES_MAX))
    return SimpleNamespace(status_code=answer.status, json=load, raise_for_status=lambda: None)
