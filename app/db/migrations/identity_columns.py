"""Columns of the admin's identity kinds. `db add-identity` adds one, and a table records it.

The models map a column for each configured kind. The record tells which of them exist.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Column, String, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from ...settings import current
from ...settings.checks import check
from ...settings.findings import KINDS, Finding
from ...settings.identities import SHIPPED
from ..engine import Model, db
from . import take_turns, version_options

IDENTITY = {"identity": True}  # marks the column in the models


class IdentityColumn(Model):
    """The record of a column that was added."""

    name: Mapped[str] = mapped_column(String(40), primary_key=True)


def add(name: str) -> bool:
    """Add a column with a unique index to the accounts, and record it. False if that was done before."""
    from alembic.migration import MigrationContext  # no server needs Alembic
    from alembic.operations import Operations

    with db.engine.begin() as connection:
        take_turns(connection)
        if name in connection.scalars(select(IdentityColumn.name)).all():
            return False
        operations = Operations(MigrationContext.configure(connection))
        schema = version_options()["version_table_schema"]
        operations.add_column("user", Column(name, String(255)), schema=schema)
        operations.create_index(f"uq_user_{name}", "user", [name], unique=True, schema=schema)
        connection.execute(insert(IdentityColumn).values(name=name))
    return True


def is_compared(item: Any, _name: str | None, kind: str, *_: Any) -> bool:
    """False for the column of an identity kind and its index, which no migration drops. Called by Alembic."""
    columns = {"column": [item], "index": getattr(item, "columns", [])}.get(kind, [])
    own = [column for column in columns if column.table.name == "user"]
    with db.engine.connect() as connection:
        recorded = connection.scalars(select(IdentityColumn.name)).all() if own else []
    return not any(column.name in recorded or column.info == IDENTITY for column in own)


@check
def check_columns() -> list[Finding]:
    """Return the configured kinds without a column. `check --deploy` reports a database that is away."""
    own, missing = current().SECURITY_USER_IDENTITY_ATTRIBUTES.keys() - SHIPPED, set[str]()
    path = db.engine.url.database if db.engine.dialect.name == "sqlite" else None
    if not own or (path and not Path(path).exists()):  # connecting would create it, owned by the admin
        return []
    with suppress(SQLAlchemyError), db.engine.connect() as connection:
        missing = own.difference(connection.scalars(select(IdentityColumn.name)))
    db.engine.dispose()  # no process that gunicorn forks may inherit the connection
    return [KINDS["identity-column-missing"].found(kind=kind) for kind in sorted(missing)]
