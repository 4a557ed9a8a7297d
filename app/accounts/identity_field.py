"""The forms: one identity box (ask, sign in) and the rules for what is typed into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.datastructures import MultiDict

from ..web.errors import InvalidRequest
from .identities import IDENTITY_LENGTH_MAX

IDENTITY_LABEL = _l("Email address, username or phone number")


def posted_identity() -> str:
    """What was typed into the identity box of this POST, form or JSON, without blanks around it.

    Checked before any work: exactly one text under `identity` (or Flask-Security's `email`) in the
    body, no longer than an address can be. Raises InvalidRequest.
    """
    body = request.get_json() if request.is_json else request.form
    given = [value for name in ("identity", "email") for value in _all_values(body, name)]
    if len(given) > 1:
        raise InvalidRequest(_("Give one email address, username or phone number."), field="identity")
    identity = given[0] if given else ""
    identity = identity.strip() if isinstance(identity, str) else "\0"  # refused below
    if not identity:
        raise InvalidRequest(_("Type your email address, username or phone number."), field="identity")
    if len(identity) > IDENTITY_LENGTH_MAX or not identity.isprintable():
        raise InvalidRequest(_("That is no email address, username or phone number."), field="identity")
    return identity


def _all_values(body: Mapping[str, Any], name: str) -> list[Any]:
    if isinstance(body, MultiDict):
        return body.getlist(name)
    return [body[name]] if name in body else []
