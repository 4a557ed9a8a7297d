"""Front ends: the client that a request belongs to, and the view on which its links land.

Redirects lead to configured views only. No part of them comes from a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from flask import current_app, request
from flask_babel import gettext as _

from ..settings import current
from ..settings.schema import Settings
from ..settings.urls import ClientTable, origin_of
from .errors import InvalidRequest, RequestError
from .messages import identity_label

BROWSER = "browser"  # the built-in pages
DEFAULT = "default"  # JSON that names no client
BUILT_IN = ClientTable(origins=[])  # without views, links land on the built-in pages


def configured_clients(settings: Settings) -> Mapping[str, ClientTable]:
    """Return every client by its name."""
    return {**settings.RECOVERY_CLIENTS, BROWSER: BUILT_IN, DEFAULT: _default_client(settings)}


def find(name: str) -> ClientTable:
    """Return a client. If it is no longer configured, return the built-in pages."""
    clients: Mapping[str, ClientTable] = current_app.extensions["recovery_clients"]
    return clients.get(name, BUILT_IN)


def posted_client() -> str:
    """Return the name of the client that a POST belongs to. Raise InvalidRequest for an unknown name."""
    if not request.is_json:
        return BROWSER
    name = request.get_json().get("client", DEFAULT)
    if not isinstance(name, str) or name not in current_app.extensions["recovery_clients"]:
        raise InvalidRequest(_("There is no such client."), field="client")
    return name


def origins_of(client: ClientTable) -> list[str]:
    """Return the origins that may send a client's requests: by default that of its view."""
    if not client.origins and client.reset_view and client.reset_view.startswith("http"):
        return [origin_of(client.reset_view)]
    return client.origins


def landing_url(client: str, token: str) -> str | None:
    """Return the view that a working link leads to, with its token. None: the built-in pages."""
    table = find(client)
    if table.reset_view and table.token_in == "fragment":  # noqa: S105  # a place, not a password
        return f"{table.reset_view}#{urlencode({'token': token})}"
    return table.reset_view and _with_query(table.reset_view, token=token)


def error_url(client: str, error: RequestError) -> str | None:
    """Return the view that a refused link leads to, with a message and an error code. None: an error page."""
    view = find(client).reset_error_view
    return view and _with_query(view, error=str(error.message), code=error.code)


def _with_query(url: str, **values: str) -> str:
    route = url.rpartition("#")[2]  # a hash route has a query of its own
    return f"{url}{'&' if '?' in route else '?'}{urlencode(values)}"


def public_policy() -> dict[str, Any]:
    """Return the facts that a client can show before the user types anything."""
    settings = current()
    return {
        "identity_attributes": [*settings.SECURITY_USER_IDENTITY_ATTRIBUTES],
        "identity_label": identity_label(),
        "password_length_min": settings.SECURITY_PASSWORD_LENGTH_MIN,
        "password_length_max": settings.RECOVERY_PASSWORD_LENGTH_MAX,
        "password_blocklist": True,
        "sends_mail": settings.sends_mail,
        "support_contact": settings.RECOVERY_SUPPORT_CONTACT,
    }


def _default_client(settings: Settings) -> ClientTable:
    """Return the client that Flask-Security's own settings describe, with absolute redirects."""
    if not (views := settings.spa_views):
        return BUILT_IN
    return ClientTable.model_construct(
        reset_view=views["SECURITY_RESET_VIEW"], reset_error_view=views["SECURITY_RESET_ERROR_VIEW"]
    )
