"""JSON responses in Flask-Security's envelope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Request, Response, jsonify


class Refusal(str):
    """A message for people that carries the error code for programs, through forms and Flask-Security."""

    code: str

    def __new__(cls, message: str, code: str) -> Refusal:
        refusal = super().__new__(cls, message)
        refusal.code = code
        return refusal


def code_of(messages: Iterable[str]) -> str | None:
    """Return the code of the first refusal among messages."""
    return next((message.code for message in messages if isinstance(message, Refusal)), None)


def wants_json(request: Request) -> bool:
    """True if a program asks: it sent JSON, or accepts it before anything else."""
    return request.is_json or request.accept_mimetypes.best == "application/json"


def json_answer(
    payload: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None, _user: Any = None
) -> Response:
    """Return Flask-Security's envelope. Every refusal in it has an error_code."""
    if status == 500 and "error_code" not in payload:  # Flask-Security's, for codes that could not be sent
        status, payload = 503, {"error_code": "unavailable", **payload}
    if status >= 400:
        code = code_of(payload.get("errors", ())) or ("not_signed_in" if status == 401 else "invalid_request")
        payload = {"error_code": code, "errors": [], "field_errors": {}, **payload}
    response = jsonify({"meta": {"code": status}, "response": payload})
    response.status_code = status
    response.headers.update(headers or {})
    return response
