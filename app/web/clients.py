"""Front ends: which client a request belongs to, and where its links land.

Redirects lead to configured views only: nothing in a request is part of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
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
    post_reset_view: str | None = None  # where the built-in pages lead after a reset
    origins: tuple[str, ...] = ()
    token_in: str = "query"  # noqa: S105  # a place, not a password

    def landing(self, token: str) -> str | None:
        """Return where a link that works leads."""
        return self.reset_view and _with(self.reset_view, {"token": token}, self.token_in)

    def problem(self, error: RequestError) -> str | None:
        """Return where a link that was refused leads: with a text for people and a code for programs."""
        values = {"error": error.message, "code": error.code}
        return self.reset_error_view and _with(self.reset_error_view, values)


def configured(settings: Settings) -> Mapping[str, Client]:
    """Return every client by its name."""
    named = {name: _named_client(name, table) for name, table in settings.RECOVERY_CLIENTS.items()}
    return MappingProxyType({**named, BROWSER: Client(BROWSER), DEFAULT: _default_client(settings)})


def named(name: str) -> Client:
    """Return a client, or the built-in pages for one that is no longer configured."""
    clients: Mapping[str, Client] = current_app.extensions["recovery_clients"]
    return clients.get(name, clients[BROWSER])


def name_in_request() -> str:
    """Return the client that a POST belongs to. Raises InvalidRequest for one that is not configured."""
    if not request.is_json:
        return BROWSER
    name = request.get_json().get("client", DEFAULT)
    if not isinstance(name, str) or name not in current_app.extensions["recovery_clients"]:
        raise InvalidRequest(_("There is no such client."), field="client")
    return name


def what_to_know() -> dict[str, Any]:
    """Return what a client can tell its user before anything is typed."""
    settings = current()
    return {
        "identity_attributes": settings.SECURITY_USER_IDENTITY_ATTRIBUTES,
        "password_length_min": settings.SECURITY_PASSWORD_LENGTH_MIN,
        "password_length_max": settings.RECOVERY_PASSWORD_LENGTH_MAX,
        "password_blocklist": True,
        "sends_mail": settings.sends_mail,
        "support_contact": settings.RECOVERY_SUPPORT_CONTACT,
    }


def _named_client(name: str, table: ClientTable) -> Client:
    """Return a client of RECOVERY_CLIENTS. Its origin is by default that of its view."""
    origins = tuple(table.origins)
    if not origins and (table.reset_view or "").startswith("http"):
        origins = (origin_of(table.reset_view or ""),)
    return Client(name, **{**table.model_dump(), "origins": origins})


def _default_client(settings: Settings) -> Client:
    """Return what Flask-Security's own settings describe, with absolute redirects."""
    config = settings.handed_on
    if config.get("SECURITY_REDIRECT_BEHAVIOR") != "spa":
        return Client(DEFAULT)
    view = _absolute(config["SECURITY_RESET_VIEW"], settings)
    error_view = _absolute(config["SECURITY_RESET_ERROR_VIEW"], settings)
    return Client(DEFAULT, view, error_view, origins=(origin_of(view),))


def _absolute(view: str, settings: Settings) -> str:
    """Replace the host by SECURITY_REDIRECT_HOST, as Flask-Security does; http stays on this machine only."""
    public, parts = urlsplit(settings.RECOVERY_PUBLIC_URL), urlsplit(view)
    host = settings.handed_on.get("SECURITY_REDIRECT_HOST") or parts.netloc or public.netloc
    scheme = parts.scheme or public.scheme
    if scheme == "http" and not is_loopback(urlsplit(f"//{host}").hostname or ""):
        scheme = "https"
    return parts._replace(scheme=scheme, netloc=host).geturl()


def _with(url: str, values: dict[str, str], place: str = "query") -> str:
    """Return the URL with values added; its query is kept."""
    if place == "fragment":
        return f"{url}#{urlencode(values)}"
    return f"{url}{'&' if '?' in url else '?'}{urlencode(values)}"
