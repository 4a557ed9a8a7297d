"""A token server of OAuth 2, and a mail server whose login takes its tokens (XOAUTH2)."""

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult
from werkzeug import Request, Response

from .live import answering
from .mailbox import Mailbox

CLIENT_SECRET, REFRESH_TOKEN, USERNAME = "s~cret:+/% of a client", "refresh 1", "no-reply@example.com"


@dataclass
class TokenServer:
    """The requests so far, the valid tokens, and the next answers."""

    port: int = 0
    requests: list[dict[str, str]] = field(default_factory=list)
    valid: set[str] = field(default_factory=set)
    lifetime: Any = 3600  # expires_in
    rotates: bool = False  # each refresh token works once
    answer: tuple[int, bytes] | None = None  # in place of a token
    drips: bool = False  # blanks before the answer
    refresh_token: str = REFRESH_TOKEN

    def grants(self, **more: Any) -> dict[str, Any]:
        """Return the settings of a site that signs in by client credentials, or with `more`."""
        client = {"CLIENT_ID": "id", "CLIENT_SECRET": CLIENT_SECRET, "SCOPE": "smtp.send"}
        values = {"URL": f"http://127.0.0.1:{self.port}/token", **client, **more}
        return {"MAIL_USERNAME": USERNAME} | {f"RECOVERY_MAIL_OAUTH_{name}": values[name] for name in values}

    def respond(self, asked: dict[str, str]) -> tuple[int, bytes]:
        """Return the status and body of an answer (RFC 6749 §5)."""
        self.requests.append(asked)
        if self.answer:
            return self.answer
        if asked["client_id"] != "id" or asked.get("client_secret", CLIENT_SECRET) != CLIENT_SECRET:
            description = r"AADSTS7000215: wrong secret\r\nx"
            return 401, f'{{"error": "invalid_client", "error_description": "{description}"}}'.encode()
        if asked["grant_type"] == "refresh_token" and asked["refresh_token"] != self.refresh_token:
            return 400, b'{"error": "invalid_grant"}'
        token = secrets.token_urlsafe(1800)  # as long as Microsoft's
        self.valid.add(token)
        # As Google and Microsoft do, whose scopes may be spelled otherwise than asked for.
        answer = {"access_token": token, "token_type": "Bearer", "scope": "SMTP.Send"}
        answer["expires_in"] = self.lifetime
        if self.rotates and asked["grant_type"] == "refresh_token":
            answer["refresh_token"] = self.refresh_token = f"refresh {len(self.requests) + 1}"
        return 200, json.dumps(answer).encode()

    def __call__(self, environ: Any, start_response: Any) -> Any:
        asked = Request(environ).get_data(as_text=True)
        status, answer = self.respond(dict(parse_qsl(asked, strict_parsing=True)))
        body = self._drip() if self.drips else answer
        return Response(body, status, content_type="application/json")(environ, start_response)

    def _drip(self) -> Iterator[bytes]:
        while self.drips:
            yield b" "
            time.sleep(0.05)


@contextmanager
def granting() -> Iterator[TokenServer]:
    """Run a token server."""
    tokens = TokenServer()
    with answering(tokens) as tokens.port:
        yield tokens
        tokens.drips = False


class _LongLines(SMTP):
    line_length_limit = 12288  # of an answer to a challenge (RFC 4954 §4); a command may have 512


class OAuthRelay(Controller):
    """Its login takes XOAUTH2 alone, or the mechanisms that are not excluded."""

    def __init__(self, box: Mailbox, excluded: tuple[str, ...] = ("LOGIN", "PLAIN")) -> None:
        options: dict[str, Any] = {"auth_required": True, "auth_require_tls": False}
        super().__init__(box, "127.0.0.1", box.port, auth_exclude_mechanism=excluded, **options)

    def factory(self) -> SMTP:
        return _LongLines(self.handler, **self.SMTP_kwargs)


@dataclass
class OAuthMailbox(Mailbox):
    """A mail server whose login takes the valid tokens of a token server."""

    tokens: TokenServer = field(default_factory=TokenServer)
    logins: list[str] = field(default_factory=list)
    refuses_by_challenge: bool = False  # as Microsoft and Google do

    async def auth_XOAUTH2(self, server: Any, args: list[str]) -> AuthResult:
        assert len(args) == 1
        text = (await server.challenge_auth(b"")).decode()
        self.logins.append(text)
        user, bearer, *_ = text.split("\x01")
        token = bearer.removeprefix("auth=Bearer ")
        if user == f"user={USERNAME}" and token in self.tokens.valid:
            return AuthResult(success=True)
        if self.refuses_by_challenge:
            assert await server.challenge_auth(b'{"status":"401"}') == b""
        await server.push(f"535 5.7.139 Authentication unsuccessful: {token}")
        return AuthResult(success=False, handled=True)
