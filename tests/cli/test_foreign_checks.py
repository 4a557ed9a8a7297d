"""`check` and `check --live` find each mismatch of RECOVERY_ACCOUNTS, with the statement that mends it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from support.admin import Admin
from support.application import EVERYWHERE, OLD_HASH, Application, deploy
from support.foreign_hashes import HASHES
from support.recovery import code_of
from support.site import Site

from app.accounts import foreign_checks

ALTER = "ALTER TABLE users"
LITE, PG = ("sqlite",), ("postgresql",)
BOTH = (*LITE, *PG)
ABSENT = ("emial", "login", "mobile", "hash_of", "disabled", "ok", "session", "since")
COLUMNS = {"email": "emial", "username": "login", "phone": "mobile", "password": "hash_of", "active": "!disabled",
    "confirmed": "ok=1", "uniquifier": ["session"], "changed_at": "since"}  # fmt: skip
# The mismatch: databases, statements of the application, keys of RECOVERY_ACCOUNTS, finding, words in it.
PLANTED: list[tuple[tuple[str, ...], list[str], dict[str, Any], str, list[str]]] = [
    (BOTH, [], {"table": "user_s"}, "accounts-away", ["no such table"]),
    (PG, [], {"table": "shop.users"}, "accounts-away", ["no such table"]),
    (LITE, [], {"id": "user_id"}, "accounts-column-missing", ["user_id", "The table has "]),
    (BOTH, [], COLUMNS, "accounts-column-missing", [f"The table users has no column {name}." for name in ABSENT]),
    (LITE, [f"{ALTER} RENAME password TO secret"], {}, "accounts-column-missing", ["password"]),
    (BOTH, ["UPDATE users SET status = 'f'"], {"active": "status"}, "accounts-flag-text", ["status=yes"]),
    (LITE, [], {"active": "status=active"}, "accounts-flag-unmet", ["active: ", "on status."]),
    (BOTH, [], {"active": ["is_active", "changed_at"]}, "accounts-flag-unmet", ["active: ", "on changed_at."]),
    (BOTH, [], {"active": ["is_active", "!gone"]}, "accounts-column-missing", ["no column gone"]),
    (PG, [f"{ALTER} ALTER password TYPE varchar(60)", "UPDATE users SET password = NULL"], {"hash": "django"},
        "accounts-column-short", ["ALTER TABLE users ALTER COLUMN password TYPE varchar(255);"]),
    (PG, [f"{ALTER} ALTER fs_uniquifier TYPE char(20)"], {"uniquifier": ["fs_uniquifier"]},
        "accounts-column-short", ["fs_uniquifier"]),
    (PG, [f"{ALTER} ADD code integer"], {"email": "code"}, "accounts-column-type", ["code has the type integer", "(number::text)"]),
    (PG, [f"{ALTER} ADD pw bytea"], {"password": "pw"}, "accounts-column-type", ["pw has the type bytea"]),
    (PG, [f"{ALTER} ADD epoch integer"], {"changed_at": "epoch"}, "accounts-column-type", ["epoch"]),
    (BOTH, [f"DROP INDEX users_{n}" for n in (0, 1, 3, 4)], {}, "accounts-index", ["lower(username)", "(phone)",
        "CREATE INDEX sparekey_email ON users (email);", "CREATE INDEX sparekey_lower_email ON users (lower(email));"]),
    (BOTH, ["UPDATE users SET email = 'ALICE@example.com' WHERE id = 2"], {}, "accounts-alike", ["1 addresses"]),
    (BOTH, ["UPDATE users SET status = 'same'"], {"id": "status"}, "accounts-id", ["1 values"]),
    (PG, ["CREATE VIEW people AS SELECT DISTINCT * FROM users"], {"table": "people"}, "accounts-view", ["people"]),
    (LITE, ["CREATE VIEW people AS SELECT * FROM users"], {"table": "people"}, "accounts-rehearsal",
        ["cannot modify people because it is a view"]),
    (LITE, [f"UPDATE users SET password = '{HASHES['django pbkdf2']}'"], {}, "accounts-hash", ["django"]),
    (LITE, ["UPDATE users SET password = 'secret'"], {}, "accounts-hash", ["nothing that is supported"]),
    (LITE, [], {"uniquifier": ["fs_uniquifier"]}, "accounts-uniquifier", ["has fs_token_uniquifier,"]),
    (LITE, ["DELETE FROM users"], {}, "accounts-none", ["no rows"]),
]  # fmt: skip
CASES = [(database, *row[1:]) for row in PLANTED for database in row[0]]


def findings(site: Site) -> dict[str, str]:
    """Return the words of `check --live`, by the id of the finding."""
    words: dict[str, str] = defaultdict(str)
    with site.app.app_context():
        for found in foreign_checks.run(live=True):
            words[found.id] += f"{found.what} {found.why} {found.hint}\n"
    return words


@EVERYWHERE
def test_table_that_fits_has_no_finding(application: Application, make_site: Any) -> None:
    others = {"changed_at": "verified_at", "confirmed": "!changed_at"}
    uniquifiers = ["fs_uniquifier", "fs_token_uniquifier"]
    before = application.user()
    assert findings(make_site(**application.deployment(uniquifier=uniquifiers, **others))) == {}
    assert application.user() == before


@pytest.mark.parametrize(
    ("application", "statements", "accounts", "id", "words"), CASES, indirect=["application"]
)
def test_planted_mismatch_is_found_with_the_way_to_mend_it(
    application: Application, make_site: Any, statements: Any, accounts: Any, id: str, words: Any
) -> None:
    application.execute("SELECT 1", *statements)
    shown = findings(make_site(**application.deployment(**accounts)))
    assert [word for word in words if word not in shown[id]] == [], shown


def test_missing_file_is_found(application: Application, make_site: Any) -> None:
    assert application.file
    gone = application.file.with_name("gone.db")
    shown = findings(make_site(**application.deployment(file=str(gone))))
    assert "unable to open" in shown["accounts-away"]
    assert "accounts-rehearsal" not in shown  # its remedy is for another problem
    assert not gone.exists()


# --- Rights (PostgreSQL) ---

READ = ("id", "email", "username", "phone", "password", "is_active")
WRITTEN = ("password", "fs_uniquifier", "changed_at")
GRANTS = [
    "GRANT USAGE ON SCHEMA shop TO clerk;",
    *(f"GRANT SELECT ({name}) ON shop.users TO clerk;" for name in READ),
    *(f"GRANT UPDATE ({name}) ON shop.users TO clerk;" for name in WRITTEN),
]
on_postgresql = pytest.mark.parametrize("application", PG, indirect=True)


@pytest.fixture
def clerk(application: Application, make_site: Any) -> Iterator[Site]:
    """A Sparekey whose role has exactly the documented grants, beside a table in a schema of its own."""
    application.execute(
        "DROP SCHEMA sparekey CASCADE",
        "DO $$ BEGIN CREATE ROLE clerk LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
        "CREATE SCHEMA sparekey AUTHORIZATION clerk",
        "CREATE SCHEMA shop",
        f"{ALTER} SET SCHEMA shop",
        f"{ALTER.replace('users', 'shop.users')} DROP fs_token_uniquifier",
        *GRANTS,
    )
    columns = {"uniquifier": ["fs_uniquifier"], "changed_at": "changed_at"}
    settings = application.deployment(table="shop.users", **columns)
    settings["SQLALCHEMY_DATABASE_URI"] = application.uri.replace("tests@", "clerk@")
    deploy(**settings)
    yield make_site(**settings)
    application.execute("DROP SCHEMA shop CASCADE", "DROP SCHEMA sparekey CASCADE")


@on_postgresql
def test_documented_grants_suffice_and_a_missing_one_is_printed(
    application: Application, clerk: Site
) -> None:
    for statement in GRANTS:
        application.execute(statement.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
        assert statement in findings(clerk)["accounts-grant"]
        application.execute(statement)
    assert findings(clerk) == {}
    assert code_of(clerk, clerk.new_link()) == "redeemed"
    [user] = application.execute("SELECT password FROM shop.users WHERE id = 1")
    assert user["password"] != OLD_HASH


@on_postgresql
def test_missing_grants_are_one_statement_in_the_order_of_the_columns(
    application: Application, clerk: Site
) -> None:
    application.execute(*(line.replace("GRANT", "REVOKE").replace(" TO ", " FROM ") for line in GRANTS[1:]))
    shown = findings(clerk)["accounts-grant"]
    assert f"GRANT SELECT ({', '.join(READ)}) ON shop.users TO clerk;" in shown
    assert f"GRANT UPDATE ({', '.join(WRITTEN)}) ON shop.users TO clerk;" in shown


@on_postgresql
def test_policy_and_trigger_that_stop_a_reset_are_found(application: Application, clerk: Site) -> None:
    application.execute("ALTER TABLE shop.users ENABLE ROW LEVEL SECURITY")
    statement = "CREATE POLICY sparekey ON shop.users TO clerk USING (true);"
    assert statement in findings(clerk)["accounts-row-security"]
    application.execute(
        statement,
        "CREATE TABLE shop.trail (at timestamp)",
        """CREATE FUNCTION shop.note() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO shop.trail VALUES (now()); RETURN NEW; END $$""",
        "CREATE TRIGGER note BEFORE UPDATE ON shop.users FOR EACH ROW EXECUTE FUNCTION shop.note()",
    )
    shown = findings(clerk)
    assert shown.keys() == {"accounts-rehearsal"}
    assert "permission denied for table trail" in shown["accounts-rehearsal"]
    application.execute("GRANT INSERT ON shop.trail TO clerk")
    assert findings(clerk) == {}
    assert application.execute("SELECT count(*) AS n FROM shop.trail")[0]["n"] == 0
    assert code_of(clerk, clerk.new_link()) == "redeemed"


KEEP = {
    True: """CREATE TRIGGER keep AFTER UPDATE OF password ON users BEGIN
        UPDATE users SET password = old.password WHERE id = old.id; END""",
    False: """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.password = OLD.password; RETURN NEW; END $$""",
}


@EVERYWHERE
def test_trigger_that_keeps_the_old_password_is_found(application: Application, make_site: Any) -> None:
    site: Site = make_site(**application.deployment())
    assert "accounts-rehearsal" not in findings(site)
    application.execute(KEEP[bool(application.file)])
    if not application.file:
        application.execute("CREATE TRIGGER keep BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep()")
    assert "the row has another password afterwards" in findings(site)["accounts-rehearsal"]


# --- The command ---


def test_command_reports_the_findings(application: Application) -> None:
    application.execute("CREATE VIEW people AS SELECT * FROM users")

    def found(**accounts: str) -> dict[str, Any]:
        deployment = application.deployment(**accounts)
        uri, setting = deployment["SQLALCHEMY_DATABASE_URI"], json.dumps(deployment["RECOVERY_ACCOUNTS"])
        admin = Admin(uri, mail_port=1, FLASK_RECOVERY_ACCOUNTS=setting)
        result = admin.types("check", "--live", "--format", "json")
        assert result.returncode == 1
        return {row["id"]: row for row in json.loads(result.stdout)["findings"]}

    shown = found(phone="mobile")["accounts-column-missing"]
    assert shown["origin"] == "FLASK_RECOVERY_ACCOUNTS"
    assert "The table users has no column mobile." in shown["what"]
    assert "accounts-rehearsal" in found(table="people")
