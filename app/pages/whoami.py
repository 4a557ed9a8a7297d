"""Whose request this is: GET /me for programs, and forward authentication for reverse proxies.

A proxy asks, with the cookies of a request to another application on this host: nginx (auth_request) at
/auth, Caddy (forward_auth) and Traefik (ForwardAuth) at /auth/redirect. It must replace that request's
Remote-User, Remote-Email and Remote-Groups by those of the answer (docs/forward-auth.md).
"""

import string
from functools import partial
from http import HTTPStatus
from urllib.parse import quote, unquote

from flask import Blueprint, Response, abort, redirect, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import lazy_gettext as _l
from flask_security import current_user
from flask_security.utils import get_message, is_user_authenticated

from ..accounts.sign_in import may_sign_in
from ..settings import current
from ..settings.urls import origin_of
from ..web.errors import RequestError
from ..web.responses import json_response, wants_json

# Also encodes %, or a name that contains it could pass for another one, and the comma between groups.
encode = partial(quote, safe="".join(set(string.punctuation) - {"%", ","}))
blueprint = Blueprint("whoami", __name__)


class NoAccess(RequestError):
    """An account that is signed in, and may not use an application."""

    status = HTTPStatus.FORBIDDEN
    code = "no_access"
    message = _l("This account doesn't have access. Please contact support.")


@blueprint.get("/me")
def me() -> ResponseReturnValue:
    """Return the account that is signed in."""
    user = current_user.get_security_payload() if is_user_authenticated(current_user) else None
    return json_response({"user": user}) if user else _not_signed_in()


@blueprint.get("/auth", provide_automatic_options=False)
@blueprint.get("/auth/redirect", provide_automatic_options=False)
def authenticate() -> ResponseReturnValue:
    """Answer 200 with the account in headers, or else 401 or a redirect. Raises NoAccess."""
    attribute = current().RECOVERY_AUTH or abort(HTTPStatus.NOT_FOUND)
    if not is_user_authenticated(current_user):
        may_redirect = request.path == "/auth/redirect" and not wants_json(request)
        return _redirect_to_sign_in() if may_redirect else _not_signed_in()
    account = current_user.get_security_payload()
    if not may_sign_in(current_user) or not account[attribute]:
        raise NoAccess
    names = {"Remote-User": encode(account[attribute]), "Remote-Email": encode(account["email"])}
    return json_response({}, headers={**names, "Remote-Groups": ",".join(map(encode, account["roles"]))})


def _redirect_to_sign_in() -> ResponseReturnValue:
    """Redirect to the sign-in page, which leads back to X-Forwarded-Uri."""
    path, mark, query = request.headers.get("X-Forwarded-Uri", "").partition("?")
    # Decoded, because Flask-Security encodes the path again. With the origin, because // would begin a host.
    back = f"{origin_of(current().RECOVERY_PUBLIC_URL)}{unquote(path)}{mark}{query}"
    next_page = back if path.startswith("/") else None
    return redirect(url_for("security.login", next=next_page, _external=True))


def _not_signed_in() -> Response:
    return json_response({"errors": [get_message("UNAUTHENTICATED")[0]]}, HTTPStatus.UNAUTHORIZED)
