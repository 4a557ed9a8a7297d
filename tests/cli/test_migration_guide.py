"""The commands of docs/migrate.md export the tables of each source, and `users import` takes the result."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support import servers
from support.commands import run
from support.foreign_hashes import FLASK_SECURITY_HASHES, NON_ASCII_PASSWORD, PASSWORD, QUICK_HASHES
from support.servers import skip_or_fail
from support.site import ROOT, Site

GUIDE = (ROOT / "docs" / "migrate.md").read_text()
DORA, ZOE = "Dora@example.com", "zoë@example.com"
INACTIVE, NO_PASSWORD = "off@example.com", "nopass@example.com"
MOMENT = "2026-01-31 12:00:00.123456"
ARGON2, ARGON2_NON_ASCII = (FLASK_SECURITY_HASHES[scheme][0] for scheme in ("argon2", "argon2 ü"))
SCRYPT, PBKDF2, BCRYPT = (
    QUICK_HASHES[name] for name in ("werkzeug scrypt", "werkzeug pbkdf2", "flask-bcrypt")
)
DJANGO_PBKDF2, DJANGO_BCRYPT, DJANGO_SCRYPT, DJANGO_ARGON2, LARAVEL, DEVISE, LARAVEL_ARGON2 = (QUICK_HASHES[name] for name in
    ("django pbkdf2", "django bcrypt sha256", "django scrypt", "django argon2", "laravel", "devise", "argon2"))  # fmt: skip


def sql(table: str, columns: str, *rows: tuple[Any, ...]) -> str:
    """Return the statements that make a table with these rows."""

    def literal(value: Any) -> str:
        return {None: "null", True: "true", False: "false"}.get(value) or f"'{value}'"

    values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
    return f"create table {table} ({columns}); insert into {table} values {values};"


def jwt(kind: str, dora: str, zoe: str) -> str:
    columns = f"username varchar(64) unique, email varchar(120) unique, password_hash {kind}"
    return sql('"user"', columns, ("Dora", DORA, dora), ("zoe", ZOE, zoe), ("nopass", NO_PASSWORD, None))


STOCK = sql('"user"', "email varchar(255), username varchar(255), us_phone_number varchar(128), password varchar(255), "
    "active boolean not null, confirmed_at timestamp without time zone",
    (DORA, "dora", "+14155550142", ARGON2, True, MOMENT), (ZOE, None, None, ARGON2_NON_ASCII, True, None),
    (INACTIVE, None, None, ARGON2, False, None), (NO_PASSWORD, None, None, None, True, None))  # fmt: skip
DJANGO = sql("auth_user", "password varchar(128) not null, username varchar(150), email varchar(254), is_active boolean",
    (DJANGO_PBKDF2, "Dora", DORA, True), (DJANGO_BCRYPT, "zoe", ZOE, True), (DJANGO_SCRYPT, "ina", INACTIVE, False),
    ("!Abc123", "nopass", NO_PASSWORD, True), (DJANGO_ARGON2, "nomail", "", True))  # fmt: skip
# A table for each export command of the guide, in its order.
SOURCES = [
    sql("users", "email text, username text, password_hash text, is_active boolean not null",
        (DORA, "dora", SCRYPT, True), (ZOE, None, PBKDF2, True), (INACTIVE, None, SCRYPT, False), (NO_PASSWORD, None, None, True)),
    *(jwt("varchar(256)", SCRYPT, PBKDF2), jwt("varchar(256)", SCRYPT, BCRYPT), jwt("bytea", BCRYPT, DEVISE)),
    sql("user", "username varchar(20), email varchar(120), password varchar(60), confirmed_on datetime",
        ("dora", DORA, BCRYPT, MOMENT), ("zoe", ZOE, BCRYPT, None), ("nopass", NO_PASSWORD, None, None)),
    *(STOCK, STOCK, DJANGO, DJANGO),
    sql("users", "email varchar, encrypted_password varchar, confirmed_at timestamp", (DORA, DEVISE, MOMENT), (ZOE, DEVISE, None)),
    sql("users", "email varchar, email_verified_at datetime, password varchar", (DORA, MOMENT, LARAVEL), (ZOE, None, LARAVEL_ARGON2)),
]  # fmt: skip
EXPORTS = re.findall(r"^ *((?:psql|sqlite3) .*)$", GUIDE, re.M)
STOCK_OPTIONS = ("--from-flask-security",)


@pytest.mark.parametrize(
    ("command", "sql"), [*zip(EXPORTS, SOURCES, strict=True)], ids=lambda text: text.split()[0]
)
def test_export_command_of_the_guide_makes_an_importable_file(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest, command: str, sql: str
) -> None:
    environ = dict(os.environ)
    program, *words = shlex.split(command)
    if shutil.which(program) is None:
        skip_or_fail(f"{program} is not installed")
    if program == "sqlite3":
        with closing(sqlite3.connect(tmp_path / words[2])) as database:
            database.executescript(sql)
    else:
        server: servers.PostgreSQL = request.getfixturevalue("postgresql")
        server.execute("DROP DATABASE IF EXISTS shop")
        server.execute("CREATE DATABASE shop")
        with psycopg.connect(server.dsn("shop")) as connection:
            connection.execute(sql.encode())
        environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "tests"}
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environ, check=True, capture_output=True)
    options = STOCK_OPTIONS if sql is STOCK else ()
    assert f"manage.py users import users.csv {' '.join(options)}".strip() in GUIDE
    output = run(site, "users", "import", str(tmp_path / "users.csv"), *options).output
    assert f"{sql.count('@example.com')} accounts imported" in output
    assert site.password_works(PASSWORD, "dora" if "'dora'" in sql.lower() else DORA)
    assert site.password_works(NON_ASCII_PASSWORD if sql is STOCK else PASSWORD, ZOE)
    assert not site.password_works(PASSWORD, INACTIVE)
    assert not site.password_works(PASSWORD, NO_PASSWORD)
