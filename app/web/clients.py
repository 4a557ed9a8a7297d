"""Front ends: the client that a request belongs to, and the view on which its links land.

Redirects lead to configured views only. No part of them comes from a request.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from flask import Response, current_app, redirect, request
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_security.proxies import _security
from flask_security.utils import do_flash, get_url
from itsdangerous import BadSignature

from ..settings import current
from ..settings.forced import default_values
from ..settings.schema import Settings
from ..settings.urls import ClientTable, origin_of
from .errors import InvalidRequest, RequestError
from .messages import identity_label
from .tokens import TimedToken

BROWSER = "browser"  # the built-in pages
DEFAULT = "default"  # JSON that names no client


def configured_clients(settings: Settings) -> Mapping[str, ClientTable]:
    """Return every client by its name. Without reset_view, links land on the built-in pages."""
    own = {} if settings.spa_views else settings.library  # with "spa", they are the views of "default"
    built_in = {name: own.get(name) or value for name, value in default_values(settings).items()}
    return {**settings.RECOVERY_CLIENTS, BROWSER: _client(built_in), DEFAULT: _client(settings.spa_views)}


def find(name: str) -> ClientTable:
    """Return a client. If it is no longer configured, return the built-in pages."""
    clients: Mapping[str, ClientTable] = current_app.extensions["recovery_clients"]
    return clients.get(name, clients[BROWSER])


def posted_client() -> str:
    """Return the name of the client that a POST belongs to. Raises InvalidRequest for an unknown name."""
    return known_name(request.get_json().get("client", DEFAULT)) if request.is_json else BROWSER


def known_name(name: object) -> str:
    """Return the name of a client that a request gives. Raises InvalidRequest for an unknown one."""
    if not isinstance(name, str) or name not in current_app.extensions["recovery_clients"]:
        raise InvalidRequest(_("That client doesn't exist."), field="client")
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


class ClientSerializer(TimedToken):
    """Signs the client of a mailed link, too, so that no request changes where the link lands."""

    def dumps(self, obj: Any, salt: Any = None, client: str | None = None) -> Any:
        asking = posted_client() if request else DEFAULT  # a command or the worker has no request
        return super().dumps({"data": obj, "client": client or asking}, salt)

    def loads(self, *args: Any, **options: Any) -> Any:
        return super().loads(*args, **options)["data"]

    def client_of(self, token: str) -> str:
        """Return the client of a link, even if it has expired. Any other token has the client "default"."""
        with suppress(BadSignature, KeyError, TypeError):
            return str(super().loads(token)["client"])
        return DEFAULT


def send_on(answer: Response, kind: str, token: str) -> ResponseReturnValue:
    """Lead Flask-Security's redirect after a mailed link, which has a message, to the view of its client."""
    client = getattr(_security, f"{kind}_serializer").client_of(token)
    values = dict(parse_qsl(urlsplit(answer.location).query))
    [category] = values.keys() & {"success", "info", "error"}
    view = f"post_{kind}_view" if category == "success" else f"{kind}_error_view"
    table, browser = find(client), find(BROWSER)
    if table is not browser and (target := getattr(table, view)):
        return redirect(_with_query(target, **values))
    do_flash(values[category], category)
    page = urlsplit(answer.location).path  # "/" is Flask-Security's
    return redirect(page if page != "/" else get_url(getattr(browser, view)))


def form_targets(*tables: Mapping[str, Any]) -> str:
    """Return the sources of form-action: this site, and the origins, or an app's scheme, of tables' views."""
    views = [str(view) for table in tables for name, view in table.items() if name.lower().endswith("_view")]
    matches = map(re.compile("https?://[^/?#]+|[a-z][^/:]*:").match, views)
    return " ".join(["'self'", *sorted({match[0] for match in matches if match})])


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


def _client(views: Mapping[str, str]) -> ClientTable:
    """Return the client with the views in these settings of Flask-Security's."""
    names = {name.removeprefix("SECURITY_").lower(): view for name, view in views.items()}
    return ClientTable.model_construct(origins=[], **names)  # type: ignore[arg-type]  # strings
