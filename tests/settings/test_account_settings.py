"""RECOVERY_ACCOUNTS: a table that cannot work stops the start, and says which key to change."""

from typing import Any

import pytest
from support.application import ACCOUNTS
from support.site import load_settings

from app.settings.problems import SettingsError

POSTGRESQL = {"SQLALCHEMY_DATABASE_URI": "postgresql:///shop"}
FILE = "/srv/shop/shop.db"
HERE = {**ACCOUNTS, "file": FILE}


def problems(accounts: Any, **settings: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(RECOVERY_ACCOUNTS=accounts, **settings)
    return "\n".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        ({"table": ""}, {}, "table: name the application's table"),
        ({"table": "a.b.c"}, {}, ': give "table" or "schema.table"'),
        ({"table": 'users"; --'}, {}, ': give "table" or "schema.table"'),
        ({"tabel": "users"}, {}, "RECOVERY_ACCOUNTS.tabel (given by the program): unknown setting"),
        ({"hash": ""}, {}, "RECOVERY_ACCOUNTS.hash (given by the program): give 'flask-security', "),
        ({"hash": "md5"}, {}, "RECOVERY_ACCOUNTS.hash (given by the program): give 'flask-security', 'django', "),
        ({"sign_in_url": ""}, {}, "sign_in_url: name the page"),
        ({"sign_in_url": "http://shop.example.com/"}, {}, "must be https"),
        ({"active": "status="}, {}, "RECOVERY_ACCOUNTS.active (given by the program): give a column"),
        ({"active": ["is_active", "!!x"]}, {}, "RECOVERY_ACCOUNTS.active (given by the program): give a column"),
        ({"active": ["is_active", ""]}, {}, "RECOVERY_ACCOUNTS.active (given by the program): give a column"),
        ({"active": 1}, {}, "RECOVERY_ACCOUNTS.active (given by the program): give a list"),
        *[({"active": value}, {}, "RECOVERY_ACCOUNTS.active (given by the program): give a list") for value in (False, 0)],
        ({"changed_at": "b", "active": ["a", "b"]}, {}, "each needs a column of its own"),
        ({"confirmed": "!!x"}, {}, "RECOVERY_ACCOUNTS.confirmed (given by the program): give a column"),
        ({"id": ""}, {}, "RECOVERY_ACCOUNTS.id (given by the program): give the name of a column"),
        ({"password": "email"}, {}, "each needs a column of its own"),
        ({"uniquifier": ["password"]}, {}, "each needs a column of its own"),
        ({"changed_at": "is_active"}, {}, "each needs a column of its own"),
        ({"uniquifier": "fs_uniquifier"}, {}, "RECOVERY_ACCOUNTS.uniquifier (given by the program): give a list"),
        ({"file": ""}, {}, "file: name the application's database file"),
        ({"file": ""}, {}, "or its database on PostgreSQL in SQLALCHEMY_DATABASE_URI (default: SQLite)"),
        ({"file": "", "table": "shop.users"}, {}, "or its database on PostgreSQL in SQLALCHEMY_DATABASE_URI"),
        ({"table": "shop.users"}, {}, "table: SQLite has no schemas"),
        ({}, {"SQLALCHEMY_DATABASE_URI": f"sqlite:///{FILE}"}, "must not be Sparekey's own file"),
        ({}, POSTGRESQL, "file: only for SQLite"),
        ({"file": "", "table": "sparekey.users"}, POSTGRESQL, "own_schema: must not be the table's"),
        ({"file": "", "own_schema": "public"}, POSTGRESQL, "own_schema: must not be the table's"),
        ({}, {"SECURITY_USER_IDENTITY_ATTRIBUTES": ["username"]}, "name the kinds of RECOVERY_ACCOUNTS: email, username, us_phone_number"),
        ({"hash": "flask-security"}, {}, "RECOVERY_ACCOUNTS_SALT"),
        ({}, {"RECOVERY_ACCOUNTS_SALT": "x"}, "RECOVERY_ACCOUNTS_SALT"),
    ],
)  # fmt: skip
def test_bad_table_is_refused_with_its_key(values: Any, settings: dict[str, Any], words: str) -> None:
    shown = problems({**HERE, **values}, **settings)
    assert "RECOVERY_ACCOUNTS" in shown
    assert words in shown


def test_format_of_hashes_must_be_named() -> None:
    accounts = {name: value for name, value in HERE.items() if name != "hash"}
    assert "hash: name the format" in problems(accounts)


def test_features_of_own_accounts_are_refused_by_name() -> None:
    names = ["CHANGE_EMAIL", "CONFIRMABLE", "USERNAME_RECOVERY", "TRACKABLE", "TWO_FACTOR", "WEBAUTHN"]
    shown = problems(HERE, **{f"SECURITY_{name}": True for name in names})
    for name in names:
        assert f"SECURITY_{name} (given by the program): needs accounts of Sparekey's own" in shown


def test_kinds_of_identities_follow_from_the_columns_and_flask_securitys_salt_may_be_weak() -> None:
    accounts = {**HERE, "phone": "", "hash": "flask-security"}
    settings = load_settings(RECOVERY_ACCOUNTS=accounts, RECOVERY_ACCOUNTS_SALT="weak")
    assert [*settings.SECURITY_USER_IDENTITY_ATTRIBUTES] == ["email", "username"]
    assert settings.origins["SECURITY_USER_IDENTITY_ATTRIBUTES"] == "RECOVERY_ACCOUNTS"
