"""The applications that are compared, and how a client speaks to each. How they run: `stage.py`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    module: str  # in peers/
    package: str = ""  # whose version the report names
    short: str = ""  # for the chart
    is_sparekey: bool = False
    environ: Mapping[str, str] = field(default_factory=dict)

    encoding: str = "json"  # or "data": a form
    has_tokens: bool = False  # forms hold a token against forgery
    accepted: frozenset[int] = OK  # says that all is well
    identity: str = "email"  # the field of the request for a link
    passwords: tuple[str, ...] = ("password", "password_confirm")
    reset_path: str = "/reset"
    accept: str = "*/*"

    @property
    def redeemed(self) -> frozenset[int]:
        return self.accepted

    def post(self, client: httpx.Client, path: str, **fields: str) -> httpx.Request:
        return client.build_request("POST", path, **{self.encoding: fields})

    def hidden(self, client: httpx.Client) -> dict[str, str]:
        """Open the form, and return its token."""
        return hidden_in(client.get(self.reset_path)) if self.has_tokens else {}

    def ask(self, client: httpx.Client, address: str, hidden: dict[str, str]) -> httpx.Request:
        return self.post(client, self.reset_path, **hidden, **{self.identity: address})

    def land(self, client: httpx.Client, link: str) -> httpx.Response:
        return client.get(link, headers={"Accept": self.accept}, follow_redirects=True)

    def redeem(self, client: httpx.Client, landed: httpx.Response, password: str) -> httpx.Request:
        """Return the POST of the page on which a link has landed."""
        fields = {**hidden_in(landed), **dict.fromkeys(self.passwords, password)}
        return self.post(client, landed.url.path, **fields)


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
DJANGO = {**PAGES, "passwords": ("new_password1", "new_password2"), "reset_path": "/reset/"}
ALLAUTH = {"reset_path": f"{Headless.API}/password/request"}
JWT, TABLE, THREADS = {"BENCH_LINKS": "jwt"}, {"BENCH_LINKS": "table"}, {"BENCH_MAIL_THREADS": "1"}
OURS = {"module": "sparekey", "is_sparekey": True, "environ": UNLIMITED, "identity": "identity"}
FLOORS = {"environ": TABLE, "identity": "identity", "reset_path": "/floor"}
FST = ("stock", "Flask-Security-Too")

SPAREKEY = Peer("Sparekey, pages", **OURS, **PAGES)
SPAREKEY_JSON = Peer("Sparekey, JSON", **OURS, accept="application/json")
STOCK = Peer("Flask-Security-Too", *FST, short="Flask-Security, stock")
PEERS = (
    SPAREKEY,
    SPAREKEY_JSON,
    Peer("tutorial: JWT in the link", "tutorial", "PyJWT", environ=JWT, **FORM),
    Peer("tutorial: table of tokens", "tutorial", "Flask", environ=TABLE, **FORM),
    Peer("Django contrib.auth", "django_auth", "Django", **DJANGO),
    Headless("django-allauth, headless", "django_allauth", "django-allauth", **ALLAUTH),
    Peer("Flask-Security-Too, mail in a thread", *FST, "Flask-Security, mail thread", environ=THREADS),
    STOCK,
)
FLOOR = Peer("the floor: one durable INSERT", "tutorial", "Flask-SQLAlchemy", **FLOORS)
