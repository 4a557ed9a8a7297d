"""The account models: Flask-Security's complete ones, so that its features need no migration."""

import re
import secrets
import time
from datetime import datetime, timedelta
from typing import Any

from flask import g, session
from flask_security import current_user
from flask_security.confirmable import requires_confirmation
from flask_security.models import sqla_v2
from flask_security.models.sqla import FsModels
from sqlalchemy import Index, String, event, func, text
from sqlalchemy.orm import Mapped, declared_attr, mapped_column, validates

from ..db.engine import Model, db
from ..db.migrations.identity_columns import IDENTITY
from ..settings import current
from ..settings.identities import NAME, SHIPPED
from ..settings.types import normalize_language
from .identities import stored_identity
from .identity_mappers import normalize_identity
from .pasted import trim

NO_PASSWORD = "the account has no password: it signs in another way (RECOVERY_PASSWORDLESS)"  # noqa: S105  # no password
FsModels.set_db_info(base_model=db.Model)


class Role(Model, sqla_v2.FsRoleMixin):
    """A named set of permissions."""


class User(Model, sqla_v2.FsUserMixin):
    """An account. Its validators store each identity in normal form."""

    # The hash that "This wasn't me" or `users force-reset` withdrew. The next reset refuses its password.
    withdrawn_password: Mapped[str | None] = mapped_column(String(255))
    # The language of messages to the account. Null: that of the request.
    language: Mapped[str | None] = mapped_column(String(20))
    # While recovery is frozen: the earlier address that objected to a change, and when it was told of that.
    contested_email: Mapped[str | None] = mapped_column(String(255))
    contested_at: Mapped[datetime | None]
    # An address that gets notices, too, and no links (RECOVERY_SECOND_ADDRESS).
    second_email: Mapped[str | None] = mapped_column(String(255))
    # When an admin invited the owner, who has an account once it has a password.
    invited_at: Mapped[datetime | None]
    # The account's id for other applications. It never changes, and does not tell how many there are.
    fs_webauthn_user_handle: Mapped[str | None] = mapped_column(  # type: ignore[assignment]  # the mixin's has other options
        String(64), unique=True, default=lambda: secrets.token_hex(16)
    )

    # Of a stub: the id of an account that another application has (foreign.py).
    external_id: Mapped[str | None] = mapped_column(String(255))

    external = dict[str, Any]()  # noqa: RUF012  # replaced, never changed; of a stub: its row in the application's table
    misfit = ""  # of a stub: why that row does not fit RECOVERY_ACCOUNTS
    has_new_password, has_unconfirmed_address = False, False  # of a stub, in the application's table
    sign_in_id = ""  # of the cookie or token that the account was loaded from

    __table_args__ = (
        Index("uq_user_email_lower", func.lower(text("email")), unique=True),
        Index("uq_user_username_lower", func.lower(text("username")), unique=True),
        Index("uq_user_external_id", "external_id", unique=True),
    )

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805  # SQLAlchemy passes the class
        """Use the uniquifier, which changes with every password, as the row's version.

        A slow change or rehash then fails instead of undoing a reset.
        """
        return {"version_id_col": cls.__table__.c.fs_uniquifier, "version_id_generator": False}

    def get_id(self) -> str:
        """Begin a sign-in, and return the value in Flask-Login's cookies: uniquifier, time and id."""
        self.sign_in_id = secrets.token_urlsafe(16)
        return f"{self.fs_uniquifier}.{int(time.time())}.{self.sign_in_id}"

    def get_security_payload(self) -> dict[str, Any]:
        """Return the account as JSON answers show it: only to itself, and not before its second factor."""
        names = {"id": self.fs_webauthn_user_handle, "email": self.email, "username": self.username}
        roles, confirmed = [role.name for role in self.roles], self.confirmed_at is not None
        return {**names, "roles": roles, "confirmed": confirmed} if self == current_user else {}

    def augment_auth_token(self, tdata: dict[str, Any]) -> None:
        """Add the sign-in's id, and when its password was entered: also a stolen session gets new tokens."""
        tdata["sign_in_id"] = self.sign_in_id or secrets.token_urlsafe(16)
        is_own = session.get("_user_id", "").startswith(f"{self.fs_uniquifier}.") and not self.contested_email
        tdata["fs_paa"] = session.get("fs_paa", 0) if is_own else 0

    def verify_auth_token(self, tdata: dict[str, Any]) -> bool:
        """True unless the token's sign-in was signed out, or the request is another's. For Flask-Security."""
        self.sign_in_id = tdata.get("sign_in_id", "")
        # Flask-Login's name, private, of this request's account, which would pass for as fresh as the token.
        if g.get("_login_user", self) != self:
            return False
        return bool(self.sign_in_id) and db.session.get(SignedOut, self.sign_in_id) is None

    def reason_not_recoverable(self, confirmed: bool = False) -> str | None:
        """Return why no link can recover this account now, or None. `confirmed`: the link confirms it."""
        if self.misfit or not self.is_active:
            return self.misfit or "the account is not active"
        if self.is_locked():
            return "the account is locked"
        if self.contested_email:
            return "an objection to its new address has frozen it (users settle-address)"
        if not (confirmed or self.is_invited) and (
            self.has_unconfirmed_address or requires_confirmation(self)
        ):
            return "the address is not confirmed"
        is_raw = self.external_id and trim(self.email) != self.email.strip()  # it is mailed as it is stored
        if is_raw or (self.external_id and normalize_identity("email", self.email) is None):
            return "the account has no email address that can receive mail"
        if not (self.password or self.is_invited or current().RECOVERY_PASSWORDLESS == "allow"):
            return NO_PASSWORD
        return None

    @property
    def greeting_name(self) -> str:
        """The username, for a greeting. Empty for one that a mail program might turn into a link."""
        return plain_name(self.username)

    @property
    def is_invited(self) -> bool:
        """True until the owner of an invited account has chosen a password."""
        return self.invited_at is not None and not self.password

    @property
    def link_life(self) -> timedelta:
        """The time for which a new link of the account works."""
        settings, is_invited = current(), self.is_invited
        return settings.RECOVERY_INVITATION_WITHIN if is_invited else settings.SECURITY_RESET_PASSWORD_WITHIN

    # Flask-Login's compares get_id(), which contains the time.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, User) and self.fs_uniquifier == other.fs_uniquifier

    __hash__ = object.__hash__

    @validates("email", "second_email", "username", "us_phone_number")
    def _normalize_identity(self, column: str, value: Any) -> str | None:
        return stored_identity(column.removeprefix("second_"), value)

    @validates("active")
    def _end_sessions(self, _column: str, value: Any) -> Any:
        if self.active and not value:  # its sessions and tokens, which would come back with the account
            self.fs_uniquifier = secrets.token_hex(16)
        return value

    @validates("language")
    def _normalize_language(self, _column: str, value: Any) -> str | None:
        return normalize_language(str(value)) if value else None


def map_identity_kind(kind: str) -> None:
    """Give User the column of an identity kind of the admin's. Raises ValueError for a name that is taken."""
    if kind not in SHIPPED and not NAME.fullmatch(kind):
        raise ValueError('give lower-case letters, digits and _, first a letter, and not "password"')
    if not hasattr(User, kind):
        setattr(User, kind, mapped_column(String(255), info=IDENTITY))
        attribute = getattr(User, kind)
        event.listen(attribute, "set", lambda _, value, *__: stored_identity(kind, value), retval=True)
    elif kind not in SHIPPED and getattr(User.__table__.columns.get(kind), "info", None) != IDENTITY:
        raise ValueError("accounts have something else of that name")


def plain_name(name: str | None) -> str:
    """Return a username for an email. Empty for one that a mail program might turn into a link."""
    return name if name and re.fullmatch(r"[\w '-]{1,40}", name) else ""


class SignedOut(Model):
    """A sign-in that was signed out. Copies of its cookies and tokens are refused."""

    # Random and no secret: a cookie or token that holds it is signed.
    id: Mapped[str] = mapped_column(String(22), primary_key=True)
    ends_at: Mapped[datetime] = mapped_column(index=True)  # no copy would be valid any more


class WebAuthn(Model, sqla_v2.FsWebAuthnMixin):
    """A passkey."""

    __tablename__ = "webauthn"
    __table_args__ = (Index("ix_webauthn_user_id", "user_id"),)


class FsRefreshTracker(Model, sqla_v2.FsRefreshTrackerMixin):
    """A family of refresh tokens."""

    __tablename__ = "fs_refresh"
    __table_args__ = (
        Index("ix_fs_refresh_user_id", "user_id"),
        Index("ix_fs_refresh_expires_at", "expires_at"),
    )
