"""RECOVERY_ACCOUNTS: a table that cannot work stops the start, and says which key to change."""

from typing import Any

import pytest
from support.application import ACCOUNTS
from support.site import load_settings

from app.settings.problems import SettingsError

POSTGRESQL = "postgresql:///shop"
HERE = {**ACCOUNTS, "file": "/srv/shop/shop.db"}

BAD: list[tuple[dict[str, Any], str]] = [
    ({"table": ""}, "table: name the application's table"),
    ({"table": "a.b.c"}, 'table: give "table" or "schema.table"'),
    ({"table": 'users"; --'}, "table: give"),
    ({"tabel": "users"}, "tabel: unknown setting"),
    ({"hash": ""}, "hash: name the format"),
    ({"hash": "md5"}, "hash: give "),
    ({"sign_in_url": ""}, "sign_in_url: name the page"),
    ({"sign_in_url": "http://shop.example.com/"}, "sign_in_url: must be https"),
    ({"active": "status="}, "active: give a column"),
    ({"active": "a b"}, "active: give a column"),
    ({"confirmed": "!!x"}, "confirmed: give a column"),
    ({"id": ""}, "id: give the name of a column"),
    ({"password": "email"}, "each needs a column of its own"),
    ({"uniquifier": ["password"]}, "each needs a column of its own"),
    ({"changed_at": "is_active"}, "each needs a column of its own"),
    ({"uniquifier": "fs_uniquifier"}, "uniquifier: give a list"),
    ({"file": ""}, "file: name the application's database file"),
    ({"table": "shop.users"}, "table: SQLite has no schemas"),
]


def problems(accounts: Any, **settings: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(RECOVERY_ACCOUNTS=accounts, **settings)
    return "\n".join(map(str, caught.value.problems))


@pytest.mark.parametrize(("values", "words"), BAD, ids=[f"{values}" for values, _ in BAD])
def test_bad_table_is_refused_with_its_key(values: dict[str, Any], words: str) -> None:
    shown = problems({**HERE, **values})
    assert "RECOVERY_ACCOUNTS" in shown
    assert words.rpartition(": ")[2] in shown
    if words.startswith(("tabel", "hash: give", "active", "confirmed", "id", "uniquifier")):
        assert f"RECOVERY_ACCOUNTS.{words.partition(':')[0]}" in shown


def test_settings_that_contradict_the_databases_are_refused() -> None:
    assert "file: only for SQLite" in problems(HERE, SQLALCHEMY_DATABASE_URI=POSTGRESQL)
    beside = {**ACCOUNTS, "table": "sparekey.users"}
    assert "own_schema: must not be the table's" in problems(beside, SQLALCHEMY_DATABASE_URI=POSTGRESQL)
    beside = {**ACCOUNTS, "own_schema": "public"}
    assert "own_schema: must not be the table's" in problems(beside, SQLALCHEMY_DATABASE_URI=POSTGRESQL)
    same = "sqlite:////srv/shop/shop.db"
    assert "must not be Sparekey's own file" in problems(HERE, SQLALCHEMY_DATABASE_URI=same)


@pytest.mark.parametrize(
    "feature",
    ["CHANGE_EMAIL", "CONFIRMABLE", "USERNAME_RECOVERY", "TRACKABLE", "TWO_FACTOR", "WEBAUTHN"],
)
def test_feature_of_own_accounts_is_refused_by_name(feature: str) -> None:
    shown = problems(HERE, **{f"SECURITY_{feature}": True})
    assert f"SECURITY_{feature} (given by the program): needs accounts of Sparekey's own" in shown


def test_kinds_of_identities_follow_from_the_columns() -> None:
    settings = load_settings(RECOVERY_ACCOUNTS={**HERE, "phone": ""})
    assert [*settings.SECURITY_USER_IDENTITY_ATTRIBUTES] == ["email", "username"]
    assert settings.origins["SECURITY_USER_IDENTITY_ATTRIBUTES"] == "RECOVERY_ACCOUNTS"
    shown = problems(HERE, SECURITY_USER_IDENTITY_ATTRIBUTES=["username"])
    assert "name the kinds of RECOVERY_ACCOUNTS: email, username, us_phone_number" in shown


def test_salt_belongs_to_flask_security() -> None:
    assert "RECOVERY_ACCOUNTS_SALT" in problems({**HERE, "hash": "flask-security"})
    assert "RECOVERY_ACCOUNTS_SALT" in problems(HERE, RECOVERY_ACCOUNTS_SALT="x")
    weak = load_settings(RECOVERY_ACCOUNTS={**HERE, "hash": "flask-security"}, RECOVERY_ACCOUNTS_SALT="weak")
    assert weak.RECOVERY_ACCOUNTS


def test_without_the_table_accounts_are_sparekeys_own() -> None:
    assert not load_settings().RECOVERY_ACCOUNTS
