"""Another application's database, with a table of users that Sparekey recovers (RECOVERY_ACCOUNTS)."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import flask_migrate
import pytest
from sqlalchemy import create_engine, text

from app import create_app
from app.db.engine import db
from app.db.migrations import identity_columns
from app.settings.urls import normalize_database_uri

from .servers import PostgreSQL
from .site import OLD_PASSWORD, load_settings

SIGN_IN = "https://shop.example.com/login"
ACCOUNTS = {
    "table": "users", "username": "username", "phone": "phone", "active": "is_active", "hash": "bcrypt",
    "sign_in_url": SIGN_IN,
}  # fmt: skip
COLUMNS = """id integer PRIMARY KEY, email varchar(254), username varchar(150), phone varchar(32),
    password varchar(255), is_active boolean, verified_at timestamp, changed_at timestamp, status varchar(20),
    fs_uniquifier varchar(64), fs_token_uniquifier varchar(64)"""
INDEXED = ("email", "lower(email)", "username", "lower(username)", "phone", "status")
INDEXES = [f"CREATE INDEX users_{number} ON users ({column})" for number, column in enumerate(INDEXED)]
OLD_HASH = bcrypt.hashpw(OLD_PASSWORD.encode(), bcrypt.gensalt(4)).decode()

EVERYWHERE = pytest.mark.parametrize("application", ["sqlite", "postgresql"], indirect=True)


def deploy(**settings: Any) -> None:
    """Make Sparekey's own tables, as `db upgrade` does."""
    app = create_app(load_settings(**settings))
    with app.app_context():
        flask_migrate.upgrade()
        identity_columns.add("employee_number")  # because User keeps the column once an app has configured it
        db.session.remove()
        db.engine.dispose()


class Application:
    """An application that keeps its users in a table, and verifies bcrypt."""

    def __init__(self, uri: str, file: Path | None) -> None:
        self.uri, self.file = uri, file
        self.engine = create_engine(normalize_database_uri(f"sqlite:///{file}" if file else uri))

    def deployment(self, **accounts: Any) -> dict[str, Any]:
        """Return the settings of a Sparekey beside it."""
        file = {"file": str(self.file)} if self.file else {}
        return {"SQLALCHEMY_DATABASE_URI": self.uri, "RECOVERY_ACCOUNTS": {**ACCOUNTS, **file, **accounts}}

    def execute(self, *statements: str, **values: Any) -> Any:
        """Run statements as the application does. Return the rows of the last."""
        with self.engine.begin() as connection:
            for statement in statements:
                result = connection.execute(text(statement), values)
            return [dict(row) for row in result.mappings()] if result.returns_rows else result.rowcount

    def add(self, email: str | None, **values: Any) -> None:
        """Add a user who can recover, unless the values say otherwise."""
        user = {"email": email, "password": OLD_HASH, "is_active": True, **values}
        user.setdefault("id", self.execute("SELECT coalesce(max(id), 0) + 1 AS id FROM users")[0]["id"])
        values = ", ".join(f":{name}" for name in user)
        self.execute(f"INSERT INTO users ({', '.join(user)}) VALUES ({values})", **user)

    def user(self, email: str = "alice@example.com") -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.execute("SELECT * FROM users WHERE email = :email", email=email)
        return rows[0]

    def signs_in(self, password: str, email: str = "alice@example.com") -> bool:
        """Sign in as the application does."""
        user = self.user(email)
        return bool(user["is_active"]) and bcrypt.checkpw(password.encode(), user["password"].encode())


def create(uri: str, file: Path | None) -> str:
    """Make a database with alice, an inactive user, and one who signs in elsewhere, and Sparekey's tables beside it."""
    made = Application(uri, file)
    made.execute(f"CREATE TABLE users ({COLUMNS})", *INDEXES)
    made.add("alice@example.com", username="alice", phone="+14155550123")
    made.add("inactive@example.com", is_active=False)
    made.add("sso@example.com", password=None)
    deploy(**made.deployment())
    made.engine.dispose()
    return uri


@pytest.fixture(scope="session")
def application_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an application's file and Sparekey's own beside it."""
    folder = tmp_path_factory.mktemp("application")
    create(f"sqlite:///{folder}/sparekey.db", folder / "shop.db")
    return folder


@pytest.fixture(scope="session")
def application_database(postgresql: PostgreSQL) -> str:
    """The name of an application's database with Sparekey's schema in it."""
    return create(postgresql.create(), None).rsplit("/", 1)[1]


@pytest.fixture
def application(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """An application with users: on SQLite, or on the databases that the test is marked for (EVERYWHERE)."""
    if getattr(request, "param", "sqlite") == "sqlite":
        folder = shutil.copytree(request.getfixturevalue("application_files"), tmp_path / "application")
        made = Application(f"sqlite:///{folder}/sparekey.db", folder / "shop.db")
    else:
        server: PostgreSQL = request.getfixturevalue("postgresql")
        made = Application(server.create(request.getfixturevalue("application_database")), None)
    yield made
    made.engine.dispose()
