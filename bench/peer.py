"""Who is compared, and how each is spoken to. How they run: `stage.py`; what they are: `peers/`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import ClassVar
from urllib.parse import urlsplit

from visitor import FORM, Answer, Message, Visitor, filled_in, hidden_in, posting

LINK = re.compile(r"https?://\S+/reset/\S+")


class PeerError(AssertionError):
    """A peer did not do what it is for, so that nothing that was measured of it would mean anything."""


@dataclass(frozen=True)
class Peer:
    """One that is compared. It talks like stock Flask-Security with JSON; those below talk otherwise."""

    name: str
    short: str  # for the chart
    module: str  # in peers/
    package: str  # whose version is told; "" for our own
    mails: str  # how its mail goes out
    sparekey: bool = False
    environ: dict[str, str] = field(default_factory=dict, hash=False)

    redeemed: ClassVar[frozenset[int]] = frozenset({200})
    accepted: ClassVar[frozenset[int]] = frozenset({200})  # an asker is told that all is well
    landing: ClassVar[str] = "1 GET"

    def ready(self) -> str:
        """A path that answers as soon as anything does, at next to no cost; 404 is an answer, too."""
        return "/healthz" if self.sparekey else "/nothing"

    def prepare(self, _visitor: Visitor) -> dict[str, str]:
        """Once, before many ask: what a form holds beside the address."""
        return {}

    def ask(self, address: str, _hidden: dict[str, str]) -> Message:
        return posting("/reset", {"email": address})

    def land(self, visitor: Visitor, link: str) -> tuple[str, Answer]:
        return visitor.open(link)

    def redeem(self, _visitor: Visitor, landed: tuple[str, Answer], password: str) -> Message:
        """The POST of the page on which a link has landed."""
        return posting(landed[0], {"password": password, "password_confirm": password})

    def sign_in(self, _visitor: Visitor, address: str, password: str) -> Message:
        return posting("/login", {"email": address, "password": password})

    def is_in(self, answer: Answer) -> bool:
        return answer.status == 200

    def link_in(self, data: bytes) -> str | None:
        """The path of the link in a mail, as it was received. None: it is another mail, such as a notice."""
        mail = message_from_bytes(data.replace(b"\r\n..", b"\r\n."), policy=policy.default)
        part = mail.get_body(("plain",))
        found = LINK.search(part.get_content()) if part else None
        return urlsplit(found[0]).path if found else None


class Floor(Peer):
    """Writes a row, and no more."""

    def ask(self, address: str, _hidden: dict[str, str]) -> Message:
        return posting("/reset", {"identity": address})


class SparekeyJson(Peer):
    """As a program talks to it."""

    def ask(self, address: str, _hidden: dict[str, str]) -> Message:
        return posting("/reset", {"identity": address})

    def land(self, visitor: Visitor, link: str) -> tuple[str, Answer]:
        return link, visitor.send(Message("GET", link, headers={"Accept": "application/json"}))

    def sign_in(self, _visitor: Visitor, address: str, password: str) -> Message:
        return posting("/login", {"identity": address, "password": password})


class Pages(Peer):
    """Pages with forms that hold a token against forgery, as a browser sends them."""

    redeemed = accepted = frozenset({302, 303})
    typed_into = "email"

    def prepare(self, visitor: Visitor) -> dict[str, str]:
        return hidden_in(visitor.open(self.at("/reset"))[1])

    def at(self, path: str) -> str:
        return path

    def ask(self, address: str, hidden: dict[str, str]) -> Message:
        return posting(self.at("/reset"), {**hidden, self.typed_into: address}, FORM)

    def is_in(self, answer: Answer) -> bool:
        return answer.status in self.accepted


class SparekeyPages(Pages):
    """As a browser talks to it."""

    typed_into = "identity"
    landing = "2 GETs"

    def redeem(self, _visitor: Visitor, landed: tuple[str, Answer], password: str) -> Message:
        path, page = landed
        return filled_in(path, page, password=password, password_confirm=password)

    def sign_in(self, visitor: Visitor, address: str, password: str) -> Message:
        path, page = visitor.open("/login")
        return filled_in(path, page, identity=address, password=password)


class DjangoPages(Pages):
    """As a browser talks to `django.contrib.auth`."""

    landing = "2 GETs"

    def at(self, path: str) -> str:
        return f"{path}/"

    def redeem(self, _visitor: Visitor, landed: tuple[str, Answer], password: str) -> Message:
        path, page = landed
        return filled_in(path, page, new_password1=password, new_password2=password)

    def sign_in(self, visitor: Visitor, address: str, password: str) -> Message:
        path, page = visitor.open("/login/")
        return filled_in(path, page, username=address, password=password)


class Headless(Peer):
    """As an app talks to django-allauth. A redeemed link says 401: changed, and now sign in."""

    API = "/_allauth/app/v1/auth"
    redeemed = frozenset({200, 401})

    def ask(self, address: str, _hidden: dict[str, str]) -> Message:
        return posting(f"{self.API}/password/request", {"email": address})

    def land(self, visitor: Visitor, link: str) -> tuple[str, Answer]:
        key = link.rsplit("/", 1)[1]
        look = Message("GET", f"{self.API}/password/reset", headers={"X-Password-Reset-Key": key})
        return key, visitor.send(look)

    def redeem(self, _visitor: Visitor, landed: tuple[str, Answer], password: str) -> Message:
        return posting(f"{self.API}/password/reset", {"key": landed[0], "password": password})

    def sign_in(self, _visitor: Visitor, address: str, password: str) -> Message:
        return posting(f"{self.API}/login", {"email": address, "password": password})


class Tutorial(Peer):
    """Forms without tokens."""

    def ask(self, address: str, _hidden: dict[str, str]) -> Message:
        return posting("/reset", {"email": address}, FORM)

    def redeem(self, _visitor: Visitor, landed: tuple[str, Answer], password: str) -> Message:
        return posting(landed[0], {"password": password}, FORM)

    def sign_in(self, _visitor: Visitor, address: str, password: str) -> Message:
        return posting("/login", {"email": address, "password": password}, FORM)


MANY = "1000000 per minute"  # limits are on and count, but nobody meets them here
UNLIMITED = {
    "FLASK_RECOVERY_LIMIT_SOURCE": MANY,
    "FLASK_RECOVERY_LIMIT_IDENTITY": MANY,
    "FLASK_RECOVERY_LIMIT_LINK": MANY,
    "FLASK_RECOVERY_LIMIT_BAD_LINKS": MANY,
    "FLASK_RECOVERY_MAIL_COOLDOWN": "0 seconds",
    **{f"FLASK_RECOVERY_MAIL_{name}": str(10**9) for name in ("DAILY_CAP", "HOURLY_MAX", "WAITING_MAX")},
}
INLINE, THREAD, QUEUE = "while one waits", "in a thread", "by a worker"

SPAREKEY = SparekeyPages("Sparekey, pages", "Sparekey, pages", "sparekey", "", QUEUE, True, UNLIMITED)
SPAREKEY_JSON = SparekeyJson("Sparekey, JSON", "Sparekey, JSON", "sparekey", "", QUEUE, True, UNLIMITED)
FLOOR = Floor("the floor: one durable INSERT", "floor", "floor", "Flask-SQLAlchemy", "none")
OTHERS = (
    Tutorial("tutorial: JWT in the link", "Tutorial: JWT in the link", "tutorial_jwt", "PyJWT", INLINE),
    Tutorial("tutorial: table of tokens", "Tutorial: table of tokens", "tutorial_table", "Flask", INLINE),
    DjangoPages("Django contrib.auth", "Django contrib.auth", "django_auth", "Django", INLINE),
    Headless(
        "django-allauth, headless", "django-allauth, headless", "django_allauth", "django-allauth", INLINE
    ),
    Peer(
        "Flask-Security-Too, mail in a thread",
        "Flask-Security, mail thread",
        "threaded",
        "Flask-Security-Too",
        THREAD,
    ),
    Peer("Flask-Security-Too", "Flask-Security, stock", "stock", "Flask-Security-Too", INLINE),
)
PEERS = (SPAREKEY, SPAREKEY_JSON, *OTHERS)
