"""Front ends: which client a request belongs to, and where its links land.

Redirects lead to configured views and nowhere else: nothing in a request is part of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import current_app, request
from flask_babel import gettext as _

from ..settings import current
from ..settings.schema import Settings
from ..settings.urls import ClientTable, is_loopback, origin_of
from .errors import InvalidRequest, RequestError

BROWSER = "browser"  # the built-in pages
DEFAULT = "default"  # JSON that names no client


@dataclass(frozen=True)
class Client:
    """A named front end. Without views, its links land on the built-in pages."""

    name: str
    reset_view: str | None = None
    reset_error_view: str | None = None
    post_reset_view: str | None = None  # where the built-in pages lead on to when all is done
    origins: tuple[str, ...] = ()
    token_in: str = "query"  # noqa: S105  # a place, not a password

    def landing(self, token: str) -> str | None:
        """Where a good link leads."""
        return self.reset_view and _with(self.reset_view, {"token": token}, self.token_in)

    def problem(self, error: RequestError) -> str | None:
        """Where a link leads that can not be used: text for people, a code for programs."""
        told = {"error": error.message, "code": error.code}
        return self.reset_error_view and _with(self.reset_error_view, told)


def configured(settings: Settings) -> dict[str, Client]:
    """Every client by its name."""
    named = {
        name: Client(name, **{**table.model_dump(), "origins": _origins_of(table)})
        for name, table in settings.RECOVERY_CLIENTS.items()
    }
    return {**named, BROWSER: Client(BROWSER), DEFAULT: _default_client(settings)}


def named(name: str) -> Client:
    """A client; the built-in pages for one that is configured no more."""
    clients: dict[str, Client] = current_app.extensions["recovery_clients"]
    return clients.get(name, clients[BROWSER])


def name_in_request() -> str:
    """The client that a POST belongs to. Raises InvalidRequest for one that is not configured."""
    if not request.is_json:
        return BROWSER
    name = request.get_json().get("client", DEFAULT)
    if not isinstance(name, str) or name not in current_app.extensions["recovery_clients"]:
        raise InvalidRequest(_("There is no such client."), field="client")
    return name


def what_to_know() -> dict[str, Any]:
    """What a client can tell its user before anything is typed."""
    settings = current()
    return {
        "identity_attributes": settings.SECURITY_USER_IDENTITY_ATTRIBUTES,
        "password_length_min": settings.SECURITY_PASSWORD_LENGTH_MIN,
        "password_length_max": settings.RECOVERY_PASSWORD_LENGTH_MAX,
        "password_blocklist": True,
        "sends_mail": settings.sends_mail,
        "support_contact": settings.RECOVERY_SUPPORT_CONTACT,
    }


def _origins_of(table: ClientTable) -> tuple[str, ...]:
    """From where it may ask: as said, or where its view is."""
    view = table.reset_view or ""
    return tuple(table.origins) or ((origin_of(view),) if view.startswith("http") else ())


def _default_client(settings: Settings) -> Client:
    """What Flask-Security's own settings describe, with its redirects made absolute."""
    config: Mapping[str, Any] = settings.handed_on
    if config.get("SECURITY_REDIRECT_BEHAVIOR") != "spa":
        return Client(DEFAULT)
    view, error_view = (
        _absolute(config[f"SECURITY_{name}"], settings) for name in ("RESET_VIEW", "RESET_ERROR_VIEW")
    )
    return Client(DEFAULT, view, error_view, origins=(origin_of(view),))


def _absolute(view: str, settings: Settings) -> str:
    """As Flask-Security: SECURITY_REDIRECT_HOST replaces the host. https, but on this machine."""
    public = urlsplit(settings.RECOVERY_PUBLIC_URL)
    parts = urlsplit(view)
    host = settings.handed_on.get("SECURITY_REDIRECT_HOST") or parts.netloc or public.netloc
    on_this_machine = is_loopback(urlsplit(f"//{host}").hostname or "")
    scheme = parts.scheme or public.scheme
    if scheme == "http" and not on_this_machine:
        scheme = "https"
    return parts._replace(scheme=scheme, netloc=host).geturl()


def _with(url: str, values: dict[str, str], place: str = "query") -> str:
    """The URL with values added; what its query holds already is kept."""
    if place == "fragment":
        return f"{url}#{urlencode(values)}"
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}"
