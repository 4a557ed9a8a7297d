"""Setting type: the table of another application that has the accounts (RECOVERY_ACCOUNTS)."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

from .types import JsonText, expect, or_empty
from .urls import normalize_client_url

_NAME = r'[^\s"\'=|!.]+'
TIME = re.compile(r"[1-9]\d{3}-?[01]\d-?[0-3]\d(?!\d)")  # also as 2026-01-31 12:00:00.000 +00:00 (Sequelize)
FLAG = re.compile(rf"(!?)({_NAME})(?:=([^|]+(?:\|[^|]+)*))?|")
Column = Annotated[str, *expect("the name of a column", re.compile(_NAME).fullmatch)]
ColumnOrEmpty = Annotated[str, *expect("the name of a column", re.compile(f"({_NAME})?").fullmatch)]
TableName = Annotated[
    str, *expect('"table" or "schema.table"', re.compile(rf"(({_NAME}\.)?{_NAME})?").fullmatch)
]
FlagText = Annotated[
    str, *expect('a column, as in "is_active", "!deleted_at" or "status=active|trial"', FLAG.fullmatch)
]
# One condition as text, or a list of several that must all be met.
Conditions = Annotated[
    list[str],
    BeforeValidator(lambda value: [*filter(None, [value])] if isinstance(value, str) else value),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
    *expect(
        'a column, as in "is_active", "!deleted_at" or "status=active|trial", or a list of these',
        lambda texts: all(text and FLAG.fullmatch(text) for text in texts),
    ),
]
Hash = Literal["flask-security", "django", "werkzeug", "bcrypt", "argon2"]


class Flag(NamedTuple):
    """A condition on a column: true, not null, or one of some values; with "!", the opposite."""

    negation: str
    column: str
    values: str | None

    def is_met(self, value: Any) -> bool:
        """True if the condition holds for a column's value. Raises ValueError for text that is no time."""
        # SQLite has no type for times, and "f" would count as true.
        if isinstance(value, str) and not self.values and not TIME.match(value):
            raise ValueError(f'{self.column} holds text: name values, as in "{self.column}=yes"')
        is_true = str(value).strip() in self.values.split("|") if self.values else bool(value)
        return is_true != bool(self.negation)


class AccountsTable(BaseModel, frozen=True, extra="forbid"):
    """The application's table, and the columns that Sparekey reads and writes."""

    table: TableName = ""  # empty: the accounts are Sparekey's own
    file: Annotated[str, or_empty(lambda path: str(Path(path).absolute()))] = ""
    own_schema: Column = "sparekey"
    id: Column = "id"
    email: Column = "email"
    username: ColumnOrEmpty = ""
    phone: ColumnOrEmpty = ""
    identities: dict[str, Column] = {}
    password: Column = "password"  # noqa: S105  # a column
    active: Conditions = []
    confirmed: FlagText = ""
    uniquifier: list[Column] = []
    changed_at: ColumnOrEmpty = ""
    hash: Hash = ""  # type: ignore[assignment]  # left out, which account_rules.py refuses
    sign_in_url: Annotated[str, or_empty(normalize_client_url)] = ""

    def __bool__(self) -> bool:
        """True if the application has the accounts, and not Sparekey."""
        return bool(self.table)

    @property
    def kinds(self) -> dict[str, str]:
        """The column of each identity kind, in the order in which they are looked up."""
        kinds = {"email": self.email, "username": self.username, "us_phone_number": self.phone}
        return {kind: column for kind, column in (kinds | self.identities).items() if column}

    @property
    def flags(self) -> dict[str, Flag]:
        """The conditions that are configured, by setting, and by number after the first of several."""
        texts = {f"active {number}".removesuffix(" 0"): text for number, text in enumerate(self.active)}
        parts = {name: FLAG.findall(text)[0] for name, text in {**texts, "confirmed": self.confirmed}.items()}
        return {name: Flag(*groups) for name, groups in parts.items() if groups[1]}

    @property
    def columns_read(self) -> dict[str, str]:
        """The columns that Sparekey reads, by meaning."""
        flags = {name: flag.column for name, flag in self.flags.items()}
        return {"id": self.id, **self.kinds, "password": self.password, **flags}

    @property
    def columns_written(self) -> list[str]:
        """The columns that Sparekey writes when a password changes."""
        return [self.password, *self.uniquifier, *filter(None, [self.changed_at])]

    @property
    def ends_sessions(self) -> bool:
        """True if a new password ends every session. Django's sessions depend on the password's hash."""
        return not self or self.hash == "django" or bool(self.uniquifier)


Accounts = Annotated[AccountsTable, JsonText, Field(description="a table")]


def implied_settings(value: Any) -> dict[str, Any]:
    """Return the settings that follow from RECOVERY_ACCOUNTS, in place of defaults; none from a bad value."""
    with suppress(ValidationError):
        accounts: AccountsTable = TypeAdapter(Accounts).validate_python(value)
        return {"SECURITY_USER_IDENTITY_ATTRIBUTES": [*accounts.kinds]} if accounts else {}
    return {}
