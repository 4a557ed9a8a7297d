"""The commands of docs/migrate.md export the tables of each source, and `users import` takes the result."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path

import psycopg
import pytest
from support import servers
from support.commands import run
from support.foreign_hashes import FLASK_SECURITY_HASHES, HASHES, NON_ASCII_PASSWORD, PASSWORD
from support.servers import skip_or_fail
from support.site import ROOT, Site

GUIDE = (ROOT / "docs" / "migrate.md").read_text()
INACTIVE, NO_PASSWORD = "off@example.com", "nopass@example.com"

TOKENS = """create table users (id serial primary key, email text unique not null, username text,
    password_hash text, is_active boolean not null default true, created_at timestamptz default now())"""
JWT = """create table "user" (id integer primary key, username varchar(64) unique, email varchar(120) unique,
    password_hash {bytes_or_text})"""
BCRYPT = """create table user (id integer primary key, username varchar(20) unique not null,
    email varchar(120) unique not null, password varchar(60), confirmed_on datetime)"""
STOCK = """create table "user" (id integer primary key, email varchar(255) not null unique,
    username varchar(255) unique, us_phone_number varchar(128) unique, password varchar(255),
    active boolean not null, fs_uniquifier varchar(64), confirmed_at timestamp without time zone)"""
DJANGO = """create table auth_user (id integer primary key, password varchar(128) not null,
    username varchar(150) not null unique, email varchar(254) not null, is_active boolean not null)"""
DEVISE = """create table users (id integer primary key, email varchar not null,
    encrypted_password varchar not null, confirmed_at timestamp)"""
LARAVEL = """create table users (id integer primary key, name varchar not null, email varchar not null,
    email_verified_at datetime, password varchar not null)"""

MOMENT = "2026-01-31 12:00:00.123456"
ARGON2, ARGON2_NON_ASCII = (FLASK_SECURITY_HASHES[scheme][0] for scheme in ("argon2", "argon2 ü"))

# By a word of the section's heading: for each of its export commands, the table and its rows.
SOURCES = {
    "table of tokens": [
        (
            TOKENS,
            {"email": "Dora@example.com", "username": "dora", "password_hash": HASHES["werkzeug scrypt"]},
            {"email": "zoë@example.com", "password_hash": HASHES["werkzeug pbkdf2"]},
            {"email": INACTIVE, "password_hash": HASHES["werkzeug scrypt"], "is_active": False},
            {"email": NO_PASSWORD, "password_hash": None},
        )
    ],
    "JWT": [
        (
            JWT.format(bytes_or_text=kind),
            {"id": 1, "email": "dora@example.com", "username": "Dora", "password_hash": dora},
            {"id": 2, "email": "zoë@example.com", "username": "zoe", "password_hash": zoe},
            {"id": 3, "email": NO_PASSWORD, "username": "nopass", "password_hash": None},
        )
        for kind, dora, zoe in (
            ("varchar(256)", HASHES["werkzeug scrypt"], HASHES["werkzeug pbkdf2"]),
            ("varchar(256)", HASHES["werkzeug scrypt"], HASHES["flask-bcrypt"]),
            ("bytea", HASHES["flask-bcrypt"].encode(), HASHES["devise"].encode()),
        )
    ],
    "itsdangerous": [
        (
            BCRYPT,
            {"email": "dora@example.com", "username": "dora", "password": HASHES["flask-bcrypt"]}
            | {"confirmed_on": MOMENT},
            {"email": "zoë@example.com", "username": "zoe", "password": HASHES["flask-bcrypt"]},
            {"email": NO_PASSWORD, "username": "nopass", "password": None},
        )
    ],
    "Flask-Security": [
        (
            STOCK,
            {"id": 1, "email": "dora@example.com", "username": "dora", "password": ARGON2, "active": True}
            | {"confirmed_at": MOMENT, "us_phone_number": "+14155550142"},
            {"id": 2, "email": "zoë@example.com", "password": ARGON2_NON_ASCII, "active": True},
            {"id": 3, "email": INACTIVE, "password": ARGON2, "active": False},
            {"id": 4, "email": NO_PASSWORD, "password": None, "active": True},
        )
    ]
    * 2,
    "Django": [
        (
            DJANGO,
            {"id": 1, "email": "dora@example.com", "username": "Dora", "is_active": True}
            | {"password": HASHES["django pbkdf2"]},
            {"id": 2, "email": "zoë@example.com", "username": "zoe", "is_active": True}
            | {"password": HASHES["django bcrypt sha256"]},
            {"id": 3, "email": INACTIVE, "username": "ina", "is_active": False}
            | {"password": HASHES["django scrypt"]},
            {"id": 4, "email": NO_PASSWORD, "username": "nopass", "is_active": True, "password": "!Abc123"},
            {"id": 5, "email": "", "username": "nomail", "is_active": True}
            | {"password": HASHES["django argon2"]},
        )
    ]
    * 2,
    "Devise, Laravel": [
        (
            DEVISE,
            {"id": 1, "email": "dora@example.com", "encrypted_password": HASHES["devise"]}
            | {"confirmed_at": MOMENT},
            {"id": 2, "email": "zoë@example.com", "encrypted_password": HASHES["devise"]},
        ),
        (
            LARAVEL,
            {"name": "Dora D.", "email": "dora@example.com", "password": HASHES["laravel"]}
            | {"email_verified_at": MOMENT},
            {"name": "Zoë", "email": "zoë@example.com", "password": HASHES["argon2"]},
        ),
    ],
}


def section(word: str) -> str:
    [part] = [part for part in re.split(r"^## ", GUIDE, flags=re.M) if word in part.partition("\n")[0]]
    return part


def commands(part: str) -> list[str]:
    blocks = re.findall(r"^ *```\n(.*?)^ *```", part, re.M | re.S)
    return [line.strip() for block in blocks for line in block.splitlines()]


def exports(part: str) -> list[str]:
    return [line for line in commands(part) if line.startswith(("psql", "sqlite3"))]


def import_options(part: str) -> list[str]:
    """The options of `users import` in this section, or in the general one."""
    lines = [*commands(part), *commands(section("Steps"))]
    lines = [line for line in lines if line.startswith("manage.py users import users.csv")]
    line = next(line for line in lines if "--dry-run" not in line)
    return shlex.split(line.partition("users.csv")[2], comments=True)


CASES = [(word, number) for word, tables in SOURCES.items() for number in range(len(tables))]


def test_every_export_command_of_the_guide_has_a_case() -> None:
    numbers = {word: len(exports(section(word))) for word in SOURCES}
    assert numbers == {word: len(tables) for word, tables in SOURCES.items()}
    assert len(exports(GUIDE)) == len(CASES)


@pytest.mark.parametrize(("word", "number"), CASES)
def test_export_command_of_the_guide_makes_an_importable_file(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest, word: str, number: int
) -> None:
    table, *rows = SOURCES[word][number]
    command = exports(section(word))[number]
    environ = dict(os.environ)
    program, *words = shlex.split(command)
    if shutil.which(program) is None:
        skip_or_fail(f"{program} is not installed")
    if program == "sqlite3":
        fill_sqlite(tmp_path / words[2], str(table), rows)
    else:
        environ |= fill_postgresql(request.getfixturevalue("postgresql"), str(table), rows)
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environ, check=True, capture_output=True)
    options = import_options(section(word))
    output = run(site, "users", "import", str(tmp_path / "users.csv"), *options).output
    accounts = [row for row in rows if row["email"]]
    assert f"{len(accounts)} accounts imported" in output
    for row in accounts:
        is_non_ascii = row.get("password") == ARGON2_NON_ASCII
        signs_in = site.password_works(
            NON_ASCII_PASSWORD if is_non_ascii else PASSWORD, str(row.get("username") or row["email"])
        )
        assert signs_in is (row["email"] not in (INACTIVE, NO_PASSWORD)), row


def fill_sqlite(file: Path, table: str, rows: Iterable[dict[str, object]]) -> None:
    database = sqlite3.connect(file)
    database.execute(table)
    for row in rows:
        database.execute(insertion(table, row, "?"), [*row.values()])
    database.commit()
    database.close()


def fill_postgresql(
    server: servers.PostgreSQL, table: str, rows: Iterable[dict[str, object]]
) -> dict[str, str]:
    """Return the environment that leads `psql` to this server."""
    server.execute("DROP DATABASE IF EXISTS shop")
    server.execute("CREATE DATABASE shop")
    with psycopg.connect(server.dsn("shop")) as connection:
        connection.execute(table.encode())
        for row in rows:
            connection.execute(insertion(table, row, "%s").encode(), [*row.values()])
    return {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "tests"}


def insertion(table: str, row: dict[str, object], placeholder: str) -> str:
    name = table.split()[2]
    return f"insert into {name} ({', '.join(row)}) values ({', '.join([placeholder] * len(row))})"
