"""The applications that are compared, and how a client speaks to each. How they run: `stage.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email import message_from_bytes, policy
from urllib.parse import urlsplit

import httpx

LINK = re.compile(r"https?://\S+/reset/\S+")
# Sparekey and Flask-Security call it csrf_token, Django csrfmiddlewaretoken.
HIDDEN = re.compile(r'<input[^>]*name="(csrf\w+)"[^>]*value="([^"]+)"')
OK, REDIRECT = frozenset({200}), frozenset({302, 303})


@dataclass(frozen=True, eq=False)
class Peer:
    """An application. By default it is spoken to in JSON, as stock Flask-Security is."""

    name: str
    short: str  # for the chart
    module: str  # in peers/
    package: str = ""  # whose version the report names
    is_sparekey: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    encoding: str = "json"  # or "data": a form
    has_tokens: bool = False  # forms hold a token against forgery
    accepted: frozenset[int] = OK  # says that all is well
    identity: str = "email"  # the field of the request for a link
    login_identity: str = "email"
    passwords: tuple[str, ...] = ("password", "password_confirm")
    reset_path: str = "/reset"
    login_path: str = "/login"
    accept: str = "*/*"

    @property
    def redeemed(self) -> frozenset[int]:
        return self.accepted

    def post(self, client: httpx.Client, path: str, **fields: str) -> httpx.Request:
        if self.encoding == "json":
            return client.build_request("POST", path, json=fields)
        return client.build_request("POST", path, data=fields)

    def hidden(self, client: httpx.Client, path: str) -> dict[str, str]:
        """Open a form, and return its token."""
        return hidden_in(client.get(path)) if self.has_tokens else {}

    def ask(self, client: httpx.Client, address: str, hidden: dict[str, str]) -> httpx.Request:
        return self.post(client, self.reset_path, **hidden, **{self.identity: address})

    def land(self, client: httpx.Client, link: str) -> httpx.Response:
        return client.get(link, headers={"Accept": self.accept}, follow_redirects=True)

    def redeem(self, client: httpx.Client, landed: httpx.Response, password: str) -> httpx.Request:
        """Return the POST of the page on which a link has landed."""
        fields = {**hidden_in(landed), **dict.fromkeys(self.passwords, password)}
        return self.post(client, landed.url.path, **fields)

    def sign_in(self, client: httpx.Client, address: str, password: str) -> httpx.Request:
        hidden = self.hidden(client, self.login_path)
        fields = {**hidden, self.login_identity: address, "password": password}
        return self.post(client, self.login_path, **fields)


class Headless(Peer):
    """django-allauth, as an app talks to it. A redeemed link says 401: changed, sign in now."""

    API = "/_allauth/app/v1/auth"

    @property
    def redeemed(self) -> frozenset[int]:
        return frozenset({200, 401})

    def land(self, client: httpx.Client, link: str) -> httpx.Response:
        key = {"X-Password-Reset-Key": link.rsplit("/", 1)[1]}
        return client.get(f"{self.API}/password/reset", headers=key)

    def redeem(self, client: httpx.Client, landed: httpx.Response, password: str) -> httpx.Request:
        key = landed.request.headers["X-Password-Reset-Key"]
        return self.post(client, f"{self.API}/password/reset", key=key, password=password)


def hidden_in(page: httpx.Response) -> dict[str, str]:
    return dict(HIDDEN.findall(page.text))


def raw(request: httpx.Request) -> bytes:
    """Return a request as it travels, for `load.send`."""
    lines = [f"{request.method} {request.url.raw_path.decode()} HTTP/1.1"]
    lines += [f"{name}: {text}" for name, text in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + request.read()


def link_in(data: bytes) -> str | None:
    """Return the path of the link in a mail. None: it is another mail, such as a notice."""
    mail = message_from_bytes(data.replace(b"\r\n..", b"\r\n."), policy=policy.default)
    part = mail.get_body(("plain",))
    found = LINK.search(part.get_content()) if part else None
    return urlsplit(found[0]).path if found else None


MANY = "1000000 per minute"  # limits are on and count, but are never reached
UNLIMITED = {
    **{f"FLASK_RECOVERY_LIMIT_{name}": MANY for name in ("SOURCE", "IDENTITY", "LINK", "BAD_LINKS")},
    **{f"FLASK_RECOVERY_MAIL_{name}": str(10**9) for name in ("DAILY_CAP", "HOURLY_MAX", "WAITING_MAX")},
    "FLASK_RECOVERY_MAIL_COOLDOWN": "0 seconds",
}
FORM = {"encoding": "data"}
PAGES = {**FORM, "has_tokens": True, "accepted": REDIRECT}
JSON = {"encoding": "json", "has_tokens": False, "accepted": OK}
DJANGO = {
    "login_identity": "username",
    "passwords": ("new_password1", "new_password2"),
    "reset_path": "/reset/",
    "login_path": "/login/",
}
ALLAUTH = {"reset_path": f"{Headless.API}/password/request", "login_path": f"{Headless.API}/login"}

JWT, TABLE = {"BENCH_LINKS": "jwt"}, {"BENCH_LINKS": "table"}

SPAREKEY = Peer(
    *("Sparekey, pages", "Sparekey, pages", "sparekey", "", True, UNLIMITED),
    identity="identity",
    login_identity="identity",
    **PAGES,
)
SPAREKEY_JSON = replace(
    SPAREKEY, name="Sparekey, JSON", short="Sparekey, JSON", accept="application/json", **JSON
)
STOCK = Peer("Flask-Security-Too", "Flask-Security, stock", "stock", "Flask-Security-Too")
THREADED = replace(
    STOCK,
    name="Flask-Security-Too, mail in a thread",
    short="Flask-Security, mail thread",
    environ={"BENCH_MAIL_THREADS": "1"},
)
FLOOR = Peer("the floor: one durable INSERT", "floor", "floor", "Flask-SQLAlchemy", identity="identity")
PEERS = (
    SPAREKEY,
    SPAREKEY_JSON,
    Peer("tutorial: JWT in the link", "Tutorial: JWT in the link", "tutorial", "PyJWT", environ=JWT, **FORM),
    Peer(
        "tutorial: table of tokens", "Tutorial: table of tokens", "tutorial", "Flask", environ=TABLE, **FORM
    ),
    Peer("Django contrib.auth", "Django contrib.auth", "django_auth", "Django", **PAGES, **DJANGO),
    Headless(
        "django-allauth, headless", "django-allauth, headless", "django_allauth", "django-allauth", **ALLAUTH
    ),
    THREADED,
    STOCK,
)
