"""The guide `docs/migrate.md` is true: its commands are run against tables of the shape that each source has."""

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
from cli.test_import import HASHES, OF_STOCK, PASSWORD, imports
from support import servers
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
ARGON2, ZOE_PASSWORD = OF_STOCK["argon2"][0], OF_STOCK["argon2 ü"][1]

# By a word of the heading: the tables of its commands, in their order, each with rows.
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
            {"id": 2, "email": "zoë@example.com", "password": OF_STOCK["argon2 ü"][0], "active": True},
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
    [found] = [part for part in re.split(r"^## ", GUIDE, flags=re.M) if word in part.partition("\n")[0]]
    return found


def commands(part: str) -> list[str]:
    blocks = re.findall(r"^ *```\n(.*?)^ *```", part, re.M | re.S)
    return [line.strip() for block in blocks for line in block.splitlines()]


def exports(part: str) -> list[str]:
    return [line for line in commands(part) if line.startswith(("psql", "sqlite3"))]


def how_to_import(part: str) -> list[str]:
    """What follows the file's name: in this section, or in the general one."""
    lines = [*commands(part), *commands(section("Steps"))]
    lines = [line for line in lines if line.startswith("manage.py users import users.csv")]
    real = next(line for line in lines if "--dry-run" not in line)
    return shlex.split(real.partition("users.csv")[2], comments=True)


CASES = [(word, number) for word, tables in SOURCES.items() for number in range(len(tables))]


def test_every_export_of_the_guide_is_tried() -> None:
    assert {word: len(exports(section(word))) for word in SOURCES} == {
        word: len(tables) for word, tables in SOURCES.items()
    }
    assert len(exports(GUIDE)) == len(CASES)


@pytest.mark.parametrize(("word", "number"), CASES)
def test_an_export_of_the_guide_can_be_imported(
    site: Site, tmp_path: Path, request: pytest.FixtureRequest, word: str, number: int
) -> None:
    """By the letter; people sign in with the passwords that they had."""
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
    said = imports(site, tmp_path / "users.csv", *how_to_import(section(word))).output
    addresses = [row["email"] for row in rows if row["email"]]
    assert f"{len(addresses)} accounts imported" in said
    passwords = dict.fromkeys(addresses, PASSWORD)
    if word == "Flask-Security":
        passwords["zoë@example.com"] = ZOE_PASSWORD
    who = {address for address in addresses if site.password_works(passwords[address], address)}
    assert who == {*addresses} - {INACTIVE, NO_PASSWORD}
    if "username" in rows[0]:
        assert site.password_works(PASSWORD, "dora")
    assert site.visitor().set_password(site.new_link("dora@example.com")).status_code == 302


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
    """What leads the guide's command to this server."""
    server.execute("DROP DATABASE IF EXISTS shop")
    server.execute("CREATE DATABASE shop")
    with psycopg.connect(server.dsn("shop")) as connection:
        connection.execute(table.encode())
        for row in rows:
            connection.execute(insertion(table, row, "%s").encode(), [*row.values()])
    return {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "tests"}


def insertion(table: str, row: dict[str, object], mark: str) -> str:
    name = table.split()[2]
    return f"insert into {name} ({', '.join(row)}) values ({', '.join([mark] * len(row))})"
