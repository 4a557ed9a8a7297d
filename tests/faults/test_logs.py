"""No log of the documented deployment holds a token, however a link is spelled and whatever goes wrong."""

import hashlib
import http.client
import socket
import ssl
from collections.abc import Callable
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import trustme
from itsdangerous import URLSafeTimedSerializer
from support.admin import Admin
from support.mailbox import Mailbox, link_in
from support.recovery import objection_in
from support.servers import free_port

PIECE = 12  # characters of a token; the time in Flask-Security's tokens has fewer, and is no secret
MALFORMED_ENDINGS = (" HTTP/7", "", "\r\nBad header", " HTTP/1.1\r\nHost: a\r\nBad header: x\0")
TOO_LARGE = {"Content-Length": "70000"}


# Request targets with a token: those of links, and other ways to write them.
TARGETS = """
/auth/reset/{token} /auth/not-me/{token} /auth/confirm/{token} /auth/change-email/{token} /auth/verify/{token}
/auth/reset?token={token} /auth/confirm?token={token} /auth/?x=1&token={token} /auth/us-verify-link?code={token}
/auth/%72eset/{token} /%61uth/reset/{token} /auth/reset%2f{token} /auth/reset%2F{token}%2f /auth%2freset%2f{token}
/auth//reset//{token} //auth/reset/{token} /auth/reset/./x/../{token}/ /auth/x/..//reset/{token} /auth/reset;{token}
/auth/RESET/{token} /AUTH/Reset/{token} /reset/{token} /{token} /auth/readyz/{token} /auth/.well-known/{token}
/auth/%2572eset/{token} /auth/reset%252F{token} /auth/reset/%20{token}%0a /auth/login?next=%2Fauth%2Freset%2F{token}
/auth/reset/{encoded} /auth/reset/{in_capitals} /auth/reset/{twice} /auth/reset/{partly} /auth/reset?token={encoded}
""".split()  # noqa: SIM905  # a list would have a line for each


def spellings(token: str) -> list[str]:
    encoded = "".join(f"%{ord(letter):02x}" for letter in token)
    spelled = {
        "encoded": encoded,
        "in_capitals": encoded.upper(),
        "twice": encoded.replace("%", "%25"),
        "partly": f"{token[:15]}{encoded[45:90]}{token[30:]}",
    }
    return [target.format(token=token, **spelled) for target in TARGETS]


def pieces_in(text: str, tokens: list[str]) -> set[str]:
    """Return the parts of tokens that a reader of a log finds, who also decodes it."""
    decoded = [text]
    for _ in range(3):
        decoded.append(unquote(decoded[-1]))
    pieces = {token[at : at + PIECE] for token in tokens for at in range(len(token) - PIECE + 1)}
    return {piece for piece in pieces if any(piece in one for one in decoded)}


@pytest.mark.parametrize(
    "gunicorn", ["", "--worker-class gthread --access-logfile {}"], ids=["", "access log"]
)
@pytest.mark.requirement("R61")
def test_no_log_holds_a_token(
    database: Callable[[], str],
    nginx: Any,
    authority: trustme.CA,
    mailbox: Mailbox,
    tmp_path: Path,
    gunicorn: str,
) -> None:
    """nginx's access and error log, the output of the processes, and gunicorn's access log, which is optional."""
    port, plain_port = free_port(), free_port()
    base, trusted = f"https://localhost:{port}/auth", ssl.create_default_context(cafile=tmp_path / "ca.pem")
    gunicorn_log = tmp_path / "gunicorn.log"
    admin = Admin(
        database(),
        mailbox.port,
        FLASK_RECOVERY_PUBLIC_URL=base,
        FLASK_RECOVERY_TRUSTED_PROXIES="1",
        FLASK_RATELIMIT_ENABLED="true",
        FLASK_RECOVERY_LIMIT_SOURCE="5 per hour",
        GUNICORN_CMD_ARGS=gunicorn.format(gunicorn_log),
    )
    answered: set[int] = set()

    def ask(target: str, method: str = "GET", headers: dict[str, str] | None = None) -> None:
        """Through nginx, in these very words."""
        with closing(http.client.HTTPSConnection("localhost", port, context=trusted, timeout=20)) as client:
            answered.add(answer(client, method, target, {"Host": f"localhost:{port}", **(headers or {})}))

    output = ""
    try:
        admin.serves()
        nginx(port, admin.port, plain_port)
        assert httpx.post(f"{base}/reset", json={"identity": "alice"}, verify=trusted).status_code == 200
        admin.types("worker", "--once")
        mail = mailbox.wait_for(1)
        tokens = [link_in(mail).rsplit("/", 1)[1], objection_in(mail).rsplit("/", 1)[1]]
        signer = URLSafeTimedSerializer("a key", signer_kwargs={"digest_method": hashlib.sha256})
        tokens.append(signer.dumps(["0123456789abcdef" * 2, "someone@example.com"]))  # as for /confirm
        # nginx is the same before either, and so are the spellings; the plain paths are those of every token.
        targets = [target for token in tokens for target in spellings(token)[: 9 if gunicorn else None]]
        targets += spellings(tokens[0])[9:] if gunicorn else []
        for target in targets:
            ask(target)
            ask(target, headers={**TOO_LARGE, "Referer": f"{base}{target}"})
            for server in (plain_port, admin.port):
                ask_plainly(server, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nReferer: {base}{target}")
        for token in tokens:
            send_odd_requests(token, ask, (plain_port, admin.port))
        output = admin.stops()
        for target in targets:
            ask(target)
    finally:
        output += admin.stops()
    assert {303, 400, 404, 413, 414, 429, 502} <= answered
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.log")} | {"output": output}
    assert {name: pieces for name, text in logs.items() if (pieces := pieces_in(text, tokens))} == {}
    # What an operator needs is there.
    assert '"GET /auth/reset/[token]" 303 ' in logs["access.log"]
    assert '"GET /auth/reset/[token]" 502 ' in logs["access.log"]
    assert '"POST /auth/reset" 200 ' in logs["access.log"]
    if gunicorn:
        assert "GET /auth/reset/[token] HTTP/1" in logs["gunicorn.log"]


def send_odd_requests(token: str, ask: Callable[..., None], plain_ports: tuple[int, ...]) -> None:
    """Send requests that are refused before a view sees them."""
    for page in ("reset", "not-me"):
        for _ in range(3):  # the last ones are over the rate limit
            ask(f"/auth/{page}/{token}", "POST", {"Content-Type": "application/json"})
    ask(f"/auth/reset/{token}", headers={"Host": "local host"})
    ask(f"/auth/reset/{token}?{'x' * 9000}")
    for port, ending in product(plain_ports, MALFORMED_ENDINGS):
        ask_plainly(port, f"GET /auth/reset/{token}{ending}")


def answer(client: http.client.HTTPConnection, method: str, target: str, headers: dict[str, str]) -> int:
    client.putrequest(method, target, skip_host=True)
    for name, value in headers.items():
        client.putheader(name, value)
    client.endheaders()
    return client.getresponse().status


def ask_plainly(port: int, lines: str) -> None:
    """Send a request that may be malformed, and wait for the end of the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(f"{lines}\r\nConnection: close\r\n\r\n".encode())
        while client.recv(65_536):
            pass
