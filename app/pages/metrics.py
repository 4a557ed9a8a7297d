"""/metrics, in Prometheus's format: what happened, what waits, what is wrong.

All of it is computed from the database when it is asked for, so it is right with any number of web processes
and workers, whichever of them answers. No account, no address and no text that anybody typed is in it. But
who reads it often sees whether a mail goes out after a request, and so whether there is an account: it is for
whoever holds RECOVERY_METRICS_TOKEN, and for nobody while that is empty.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus

from flask import Blueprint, Flask, Response, abort, request
from flask.typing import ResponseReturnValue

from ..settings import current

blueprint = Blueprint("metrics", __name__)


def init_app(app: Flask) -> None:
    app.register_blueprint(blueprint)


@blueprint.get("/metrics")
def show() -> ResponseReturnValue:
    token = current().RECOVERY_METRICS_TOKEN
    if not token:
        abort(HTTPStatus.NOT_FOUND)
    given = request.headers.get("Authorization", "").encode("latin-1", "replace")
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        words, asked = "Give RECOVERY_METRICS_TOKEN as a bearer token.\n", {"WWW-Authenticate": "Bearer"}
        return Response(words, HTTPStatus.UNAUTHORIZED, asked, content_type="text/plain; charset=utf-8")
    from . import prometheus  # Prometheus's library is in memory only where somebody reads them

    return Response(prometheus.exposed(), content_type=prometheus.CONTENT_TYPE_LATEST)
