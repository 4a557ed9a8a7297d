"""JSON answers in Flask-Security's envelope."""

from __future__ import annotations

from typing import Any

from flask import Request, Response, g, jsonify

from .errors import RequestError

# What Flask-Security's own refusals are called.
CODES = {401: "not_signed_in"}


def wants_json(request: Request) -> bool:
    """Whether the answer is for a program: it sent JSON or asks for it before anything else."""
    return request.is_json or request.accept_mimetypes.best == "application/json"


def json_answer(
    payload: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None, _user: Any = None
) -> Response:
    """Flask-Security's envelope. Every refusal in it carries an error_code."""
    if status == 500 and "error_code" not in payload:  # Flask-Security's, for codes that could not be sent
        status, payload = 503, {"error_code": "unavailable", **payload}
    if status >= 400:
        code = g.get("error_code") or CODES.get(status, "invalid_request")
        payload = {"error_code": code, "errors": [], "field_errors": {}, **payload}
    answer = jsonify({"meta": {"code": status}, "response": payload})
    answer.status_code = status
    answer.headers.update(headers or {})
    return answer


def json_refusal(error: RequestError, headers: dict[str, str] | None = None) -> Response:
    """A refusal in that envelope."""
    said = [str(error.message)]
    fields = {error.field: said} if error.field else {}
    payload = {"errors": said, "field_errors": fields, "error_code": error.code}
    return json_answer(payload, error.status, headers)
