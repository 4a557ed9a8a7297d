"""Redeem: a new password, one winner, one commit.

The POST is Flask-Security's view; its `password_reset` signal redeems the link in the same transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import after_this_request, g, request
from flask_babel import lazy_gettext as _l
from flask_security import current_user, logout_user
from flask_security.forms import EqualToLocalize, IsString, ResetPasswordForm, password_required
from sqlalchemy import inspect
from wtforms import PasswordField, SubmitField

from ..accounts.identities import masked
from ..accounts.known_browsers import remember_browser
from ..accounts.limits import forget
from ..db import audit
from ..db.engine import db
from ..mail import outbox
from . import link as links
from . import notices, opened_links

if TYPE_CHECKING:
    from flask import Flask, Response

    from ..accounts.models import User


class NewPasswordForm(ResetPasswordForm):
    """Flask-Security's reset form, in our words."""

    password = PasswordField(
        _l("New password"), [IsString(), password_required], render_kw={"autocomplete": "new-password"}
    )
    password_confirm = PasswordField(
        _l("New password again"),
        [IsString(), EqualToLocalize("password", message="RETYPE_PASSWORD_MISMATCH"), password_required],
        render_kw={"autocomplete": "new-password"},
    )
    submit = SubmitField(_l("Set new password"))

    def validate(self, **kwargs: Any) -> bool:
        if request and request.is_json and "password_confirm" not in request.get_json():
            self.password_confirm.data = self.password.data  # a program does not mistype
        valid = super().validate(**kwargs)
        if self.password_confirm.errors and not self.password.errors:
            g.error_code = "password_mismatch"
        return valid


class LinkSerializer:
    """Stands behind `security.reset_serializer`, so that Flask-Security's own view reads our links."""

    def loads(self, token: str, max_age: float | None = None) -> list[str]:
        """The account's uniquifier. Raises the LinkError that says why the link can not be used."""
        link, user = links.resolve(opened_links.token_behind(token))
        g.reset_link, g.reset_user, g.reset_handle = link, user, token
        g.before_hashing = partial(links.look_again, link)
        return [user.fs_uniquifier]


def account_on_the_page() -> dict[str, Any]:
    """For Flask-Security's reset page when it shows an error: whose password this is."""
    return account_names(g.reset_user) if "reset_link" in g else {}


def account_names(user: User) -> dict[str, str | None]:
    """Whose password it is, and who else is signed in in this browser."""
    other = current_user.is_authenticated and current_user.id != user.id
    return {"account": masked(user.email), "other": masked(current_user.email) if other else None}


def on_password_reset(_app: Flask, user: User, **_: Any) -> None:
    """Spend the link and say so, in the transaction that writes the new password.

    Flask-Security commits after the request whatever the session holds, also when this raises:
    so everything is rolled back first.
    """
    try:
        password: Any = inspect(user).attrs.password
        links.redeem(g.reset_link, password_before=password.history.deleted[0])
        now = datetime.now(UTC).isoformat(timespec="seconds")
        outbox.enqueue(
            "reset_notice", user_id=user.id, address=user.email, changed_at=now, **notices.request_metadata()
        )
        client = g.reset_link.client  # read now: after the commit, reading would be one more statement
        audit.record("redeemed", user_id=user.id, client=client)
        db.session.flush()
    except BaseException:
        db.session.rollback()
        raise
    forget(user)
    if g.reset_handle.startswith(opened_links.MARK):
        remember_browser(user)
    after_this_request(partial(opened_links.forget, g.reset_handle, client))
    after_this_request(_sign_out)


def _sign_out(response: Response) -> Response:
    """Whoever is signed in in this browser, as this account or another, is so no more: the next page must not
    leave anybody in doubt whose account they are in."""
    if response.status_code < 400 and current_user.is_authenticated:
        logout_user()
    return response
