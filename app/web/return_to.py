"""The way back: the page of a client from which a user came to /login or /reset.

Only the browser that asked remembers it. In a link or the database, a stranger's request would say where the
owner ends. The origin is the client's configured one; a request names the path alone.
"""

import time

from flask import Flask, Response, after_this_request, current_app, redirect, request, session
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_security import current_user, user_authenticated
from flask_security.utils import is_user_authenticated

from ..settings import current
from ..settings.urls import origin_of
from . import clients
from .errors import InvalidRequest
from .responses import wants_json

REMEMBERED = "return_to"  # in the session: client, path and time
PATH_MAX = 1000  # characters, because browsers drop cookies of more than 4 KB


def init_app(app: Flask) -> None:
    app.before_request(_remember)
    user_authenticated.connect(_lead_back, app)


def asking_client() -> str:
    """Return the client that led this browser here, or that of the built-in pages."""
    name, _path, since = session.get(REMEMBERED, (clients.BROWSER, "", 0))
    is_recent = time.time() - since < current().SECURITY_RESET_PASSWORD_WITHIN.total_seconds()
    return name if is_recent and name in current_app.extensions["recovery_clients"] else clients.BROWSER


def return_url() -> str | None:
    """Return the page of the asking client from which this browser came, if any."""
    origin = _origin(asking_client())
    path = session.get(REMEMBERED, ("", "", 0))[1]
    return origin + path if origin and path else None


def _origin(client: str) -> str | None:
    table = clients.find(client)
    views = [view for view in (table.post_reset_view, table.reset_view) if view and view.startswith("http")]
    return next(iter([*map(origin_of, views), *clients.origins_of(table)]), None)


def _remember() -> ResponseReturnValue | None:
    """Remember the client and path in a page's query. Lead a user who is signed in back at once."""
    pages, query = ("security.login", "security.forgot_password"), request.args
    if request.endpoint not in pages or request.method == "POST" or wants_json(request):
        return None
    if not query.keys() & {"client", "return_to"}:
        if "next" in query:  # the newer wish
            session.pop(REMEMBERED, None)
        return None
    client, path = clients.known_name(query.get("client")), query.get("return_to", "")
    # Browsers read \ as /, and drop control characters.
    is_path = path.startswith("/") and path.isprintable() and not {" ", "\\"} & {*path}
    if path and not (is_path and len(path) <= PATH_MAX and _origin(client)):
        raise InvalidRequest(_("You can't continue to that address."), field="return_to")
    session[REMEMBERED] = client, path, int(time.time())
    is_over = request.endpoint == "security.login" and is_user_authenticated(current_user)
    return redirect(url) if is_over and (url := return_url()) else None


def _lead_back(_app: Flask, **_: object) -> None:
    """Let the redirect after a sign-in lead back, whatever page it ends on."""

    @after_this_request
    def lead(response: Response) -> Response:
        if response.location and (url := return_url()):
            session.pop(REMEMBERED)
            response.location = url
        return response
