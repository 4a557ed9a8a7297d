"""`check` and `check --live` find each mismatch of RECOVERY_ACCOUNTS, with the statement that mends it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.admin import Admin
from support.application import ACCOUNTS, EVERYWHERE, OLD_HASH, Application, deploy
from support.foreign_hashes import HASHES
from support.recovery import code_of
from support.site import Site

from app.accounts import foreign_checks

ALTER = "ALTER TABLE users"
BOTH = ("sqlite", "postgresql")
PG = ("postgresql",)
# The mismatch: databases, statements of the application, keys of RECOVERY_ACCOUNTS, finding, words in it.
PLANTED: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, Any], str, str]] = {
    "table": (BOTH, (), {"table": "user_s"}, "accounts-away", "no such table"),
    "schema": (PG, (), {"table": "shop.users"}, "accounts-away", "no such table"),
    "id column": (BOTH, (), {"id": "user_id"}, "accounts-column-missing", "user_id"),
    "email column": (BOTH, (), {"email": "emial"}, "accounts-column-missing", "The table has "),
    "username column": (BOTH, (), {"username": "login"}, "accounts-column-missing", "login"),
    "phone column": (BOTH, (), {"phone": "mobile"}, "accounts-column-missing", "mobile"),
    "password column": (BOTH, (), {"password": "hash_of"}, "accounts-column-missing", "hash_of"),
    "active column": (BOTH, (), {"active": "!disabled"}, "accounts-column-missing", "disabled"),
    "confirmed column": (BOTH, (), {"confirmed": "ok=1"}, "accounts-column-missing", "ok"),
    "uniquifier column": (BOTH, (), {"uniquifier": ["session"]}, "accounts-column-missing", "session"),
    "changed_at column": (BOTH, (), {"changed_at": "since"}, "accounts-column-missing", "since"),
    "renamed column": (BOTH, (f"{ALTER} RENAME password TO secret",), {}, "accounts-column-missing", "password"),
    "text flag": (BOTH, ("UPDATE users SET status = 'f'",), {"active": "status"}, "accounts-flag-text", "status=yes"),
    "unmet flag": (BOTH, (), {"active": "status=active"}, "accounts-flag-unmet", "status"),
    "short password": (PG, (f"{ALTER} ALTER password TYPE varchar(60)", "UPDATE users SET password = NULL"),
        {"hash": "django"}, "accounts-column-short", "ALTER TABLE users ALTER COLUMN password TYPE varchar(255);"),
    "short uniquifier": (PG, (f"{ALTER} ALTER fs_uniquifier TYPE char(20)",), {"uniquifier": ["fs_uniquifier"]},
        "accounts-column-short", "fs_uniquifier"),
    "number as email": (PG, (f"{ALTER} ADD code integer",), {"email": "code"}, "accounts-column-type", "code has the type integer"),
    "bytes as password": (PG, (f"{ALTER} ADD pw bytea",), {"password": "pw"}, "accounts-column-type", "pw has the type bytea"),
    "number as time": (PG, (f"{ALTER} ADD epoch integer",), {"changed_at": "epoch"}, "accounts-column-type", "epoch"),
    "no index": (BOTH, ("DROP INDEX users_0",), {}, "accounts-index", "CREATE INDEX sparekey_email ON users (email);"),
    "no lower index": (BOTH, ("DROP INDEX users_1",), {}, "accounts-index",
        "CREATE INDEX sparekey_lower_email ON users (lower(email));"),
    "no username index": (BOTH, ("DROP INDEX users_3",), {}, "accounts-index", "lower(username)"),
    "no phone index": (BOTH, ("DROP INDEX users_4",), {}, "accounts-index", "(phone)"),
    "duplicates": (BOTH, ("UPDATE users SET email = 'ALICE@example.com' WHERE id = 2",), {}, "accounts-alike", "1 addresses"),
    "id twice": (BOTH, ("UPDATE users SET status = 'same'",), {"id": "status"}, "accounts-id", "1 values"),
    "joined view": (PG, ("CREATE VIEW people AS SELECT DISTINCT * FROM users",), {"table": "people"}, "accounts-view", "people"),
    "foreign hash": (BOTH, (f"UPDATE users SET password = '{HASHES['django pbkdf2']}'",), {}, "accounts-hash", "django"),
    "plain text": (BOTH, ("UPDATE users SET password = 'secret'",), {}, "accounts-hash", "nothing that is supported"),
    "tokens": (BOTH, (), {"uniquifier": ["fs_uniquifier"]}, "accounts-uniquifier", "has fs_token_uniquifier,"),
    "no accounts": (BOTH, ("DELETE FROM users",), {}, "accounts-none", "no rows"),
}  # fmt: skip
CASES = [(database, name) for name, row in PLANTED.items() for database in row[0]]


def findings(site: Site, check: Any = foreign_checks.run) -> dict[str, str]:
    with site.app.app_context():
        return {found.id: f"{found.what} {found.why} {found.hint}" for found in check()}


@EVERYWHERE
def test_table_that_fits_has_no_finding(application: Application, make_site: Any) -> None:
    uniquifiers = ["fs_uniquifier", "fs_token_uniquifier"]
    others = {"changed_at": "verified_at", "confirmed": "!changed_at"}
    site: Site = make_site(**application.deployment(uniquifier=uniquifiers, **others))
    before = application.user()
    assert findings(site) == {}
    assert findings(site, foreign_checks.rehearse) == {}
    assert application.user() == before


@pytest.mark.parametrize(("application", "name"), CASES, indirect=["application"])
def test_planted_mismatch_is_found_with_the_way_to_mend_it(
    application: Application, make_site: Any, name: str
) -> None:
    _, statements, accounts, finding, words = PLANTED[name]
    application.execute("SELECT 1", *statements)
    site: Site = make_site(**application.deployment(**accounts))
    shown = findings(site)
    assert finding in shown, shown
    assert any(words in text for text in shown.values()), shown


def test_there_are_25_mismatches() -> None:
    assert len(PLANTED) >= 25


# --- Rights (PostgreSQL) ---

GRANTS = {
    "usage": "GRANT USAGE ON SCHEMA shop TO clerk;",
    "select": "GRANT SELECT ({}) ON shop.users TO clerk;",
    "update": "GRANT UPDATE ({}) ON shop.users TO clerk;",
}
READ = ("id", "email", "username", "phone", "password", "is_active")
WRITTEN = ("password", "fs_uniquifier", "changed_at")


@pytest.fixture
def clerk(application: Application, make_site: Any) -> Iterator[Site]:
    """A Sparekey whose role has exactly the documented grants, beside a table in a schema of its own."""
    role = "clerk"
    application.execute(
        "DROP SCHEMA sparekey CASCADE",
        f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        f"CREATE SCHEMA sparekey AUTHORIZATION {role}",
        "CREATE SCHEMA shop",
        f"{ALTER} SET SCHEMA shop",
        GRANTS["usage"],
        GRANTS["select"].format(", ".join(READ)),
        GRANTS["update"].format(", ".join(WRITTEN)),
    )
    settings = application.deployment(
        table="shop.users", uniquifier=["fs_uniquifier"], changed_at="changed_at"
    )
    settings["SQLALCHEMY_DATABASE_URI"] = application.uri.replace("tests@", f"{role}@")
    deploy(**settings)
    yield make_site(**settings)
    application.execute("DROP SCHEMA shop CASCADE", "DROP SCHEMA sparekey CASCADE")


on_postgresql = pytest.mark.parametrize("application", ["postgresql"], indirect=True)


@on_postgresql
def test_documented_grants_suffice(application: Application, clerk: Site) -> None:
    assert set(findings(clerk)) <= {"accounts-uniquifier"}
    assert findings(clerk, foreign_checks.rehearse) == {}
    assert code_of(clerk, clerk.new_link()) == "redeemed"
    application.execute("SET search_path = shop")
    [user] = application.execute("SELECT password FROM shop.users WHERE id = 1")
    assert user["password"] != OLD_HASH


@on_postgresql
@pytest.mark.parametrize(
    ("kind", "column"),
    [("usage", ""), *(("select", name) for name in READ), *(("update", name) for name in WRITTEN)],
)
def test_missing_grant_is_printed_as_a_statement_that_mends_it(
    application: Application, clerk: Site, kind: str, column: str
) -> None:
    statement = GRANTS[kind].format(column)
    application.execute(statement.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
    shown = findings(clerk)
    assert statement in shown["accounts-grant"]
    application.execute(statement)
    assert set(findings(clerk)) <= {"accounts-uniquifier"}


@on_postgresql
def test_row_level_security_without_a_policy_is_found(application: Application, clerk: Site) -> None:
    application.execute("ALTER TABLE shop.users ENABLE ROW LEVEL SECURITY")
    statement = "CREATE POLICY sparekey ON shop.users TO clerk USING (true);"
    assert statement in findings(clerk)["accounts-row-security"]
    application.execute(statement)
    assert set(findings(clerk)) <= {"accounts-uniquifier"}
    assert code_of(clerk, clerk.new_link()) == "redeemed"


@on_postgresql
def test_rehearsal_finds_a_trigger_without_rights(application: Application, clerk: Site) -> None:
    application.execute(
        "CREATE TABLE shop.trail (at timestamp)",
        """CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO shop.trail VALUES (now()); RETURN NEW; END $$""",
        "CREATE TRIGGER note BEFORE UPDATE ON shop.users FOR EACH ROW EXECUTE FUNCTION shop.note()",
    )
    assert "accounts-rehearsal" not in findings(clerk)
    assert (
        "permission denied for table trail" in findings(clerk, foreign_checks.rehearse)["accounts-rehearsal"]
    )
    application.execute("GRANT INSERT ON shop.trail TO clerk")
    assert findings(clerk, foreign_checks.rehearse) == {}
    assert application.execute("SELECT count(*) AS n FROM shop.trail")[0]["n"] == 0


# --- Files (SQLite) ---


def test_missing_file_is_found(application: Application, make_site: Any) -> None:
    assert application.file
    site: Site = make_site(**application.deployment(file=str(application.file.with_name("gone.db"))))
    assert "unable to open" in findings(site)["accounts-away"]
    assert not application.file.with_name("gone.db").exists()


def test_rehearsal_finds_a_view_that_cannot_be_written(application: Application, make_site: Any) -> None:
    application.execute("CREATE VIEW people AS SELECT * FROM users")
    site: Site = make_site(**application.deployment(table="people"))
    shown = findings(site, foreign_checks.rehearse)["accounts-rehearsal"]
    assert "cannot modify people because it is a view" in shown


# --- The command ---


@EVERYWHERE
def test_command_reports_the_findings(application: Application) -> None:
    deployment = application.deployment(phone="mobile")
    uri, accounts = deployment["SQLALCHEMY_DATABASE_URI"], json.dumps(deployment["RECOVERY_ACCOUNTS"])
    admin = Admin(uri, mail_port=1, FLASK_RECOVERY_ACCOUNTS=accounts)
    result = admin.types("check", "--format", "json")
    assert result.returncode == 1
    found = {row["id"]: row for row in json.loads(result.stdout)["findings"]}
    assert found["accounts-column-missing"]["origin"] == "FLASK_RECOVERY_ACCOUNTS"
    text = admin.types("check", "--live").stdout
    assert "The table users has no column mobile." in text
    assert ACCOUNTS["table"] in text
