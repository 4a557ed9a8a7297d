"""The login at the mail server: a password, or an access token of OAuth 2 (XOAUTH2).

The token is kept in memory, one for all threads, and renewed a minute before it ends. oauthlib knows the
grants, and web/outgoing.py makes the calls.
"""

import math
import re
import smtplib
import threading
import time
from functools import cache, partial
from http.client import HTTPException
from urllib.request import Request

from oauthlib.oauth2 import BackendApplicationClient, MissingTokenError, OAuth2Error

from ..settings import current
from ..web import outgoing
from ..web.logging import redact_line
from .smtp_failures import NO_LOGIN_METHOD, RelayAway, RelayMisconfigured, describe

PREFIX = "RECOVERY_MAIL_OAUTH_"
URL, CLIENT = f"{PREFIX}URL", f"{PREFIX}CLIENT_SECRET, {PREFIX}CLIENT_ID"
# The settings that are likely at fault, by the token server's error code (RFC 6749 §5.2).
FAULTS = {"invalid_client": CLIENT, "unauthorized_client": CLIENT, "invalid_scope": f"{PREFIX}SCOPE"}
FAULTS["invalid_grant"] = f"{PREFIX}REFRESH_TOKEN"
ANSWER_BYTES_MAX = 64 * 1024
EARLY_SECONDS = 60  # so that a token lasts for a conversation
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
    values = (getattr(current(), PREFIX + name) for name in ("CLIENT_ID", "REFRESH_TOKEN"))
    try:
        with _lock:
            client = _client(*values)
            if not client.token or client.token.get("expires_at", math.inf) <= time.time() + EARLY_SECONDS:
                _renew(client)
            return str(client.access_token)
    except (OSError, HTTPException) as error:
        raise RelayAway(f"{URL}: the token server cannot be reached ({describe(error)})") from None
    except (MissingTokenError, AttributeError, TypeError, ValueError):
        _client.cache_clear()
        raise RelayMisconfigured(f"{URL}: the token server answers without a token") from None
    except OAuth2Error as error:
        _client.cache_clear()  # the configured refresh token is next
        reason = redact_line(f"{error.error}: {error.description or ''}")[:200]
        setting = FAULTS.get(str(error.error), URL)
        raise RelayMisconfigured(f"{setting}: the token server said {reason}") from None


@cache
def _client(client_id: str, refresh_token: str) -> BackendApplicationClient:
    """Return the client that keeps the tokens."""
    # Without the scope, or oauthlib would raise for a token that is granted for another.
    return BackendApplicationClient(client_id, refresh_token=refresh_token)


def _renew(client: BackendApplicationClient) -> None:
    """Get a token by the client's refresh token or, without one, by its own credentials."""
    prepare = partial(client.prepare_request_body, include_client_id=True)
    if client.refresh_token:
        prepare = partial(client.prepare_refresh_body, client_id=client.client_id)
    settings = current()
    # Not in a header (basic), because servers disagree on how a secret is quoted there (RFC 6749 §2.3.1).
    secret = settings.RECOVERY_MAIL_OAUTH_CLIENT_SECRET or None
    body = prepare(client_secret=secret, scope=settings.RECOVERY_MAIL_OAUTH_SCOPE)
    call = Request(settings.RECOVERY_MAIL_OAUTH_URL, body.encode())  # noqa: S310  # its type checks the scheme
    # A refusal (4xx) has its reason in the body.
    seconds, accepted = settings.MAIL_TIMEOUT.total_seconds(), range(500)
    client.parse_request_body_response(outgoing.call(call, seconds, ANSWER_BYTES_MAX, accepted).decode())
