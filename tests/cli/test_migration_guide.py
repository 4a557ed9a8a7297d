"""The commands of docs/migrate.md export the tables of each source, and `users import` takes the result."""

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

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

TOKENS = f"""create table users (id serial primary key, email text unique not null, username text,
    password_hash text, is_active boolean not null default true, created_at timestamptz default now());
insert into users (email, username, password_hash, is_active) values
    ('{DORA}', 'dora', '{SCRYPT}', true),
    ('{ZOE}', null, '{PBKDF2}', true),
    ('{INACTIVE}', null, '{SCRYPT}', false),
    ('{NO_PASSWORD}', null, null, true);"""
JWT = f"""create table "user" (id integer primary key, username varchar(64) unique, email varchar(120) unique,
    password_hash BYTES_OR_TEXT);
insert into "user" values
    (1, 'Dora', '{DORA}', 'HASH_OF_DORA'), (2, 'zoe', '{ZOE}', 'HASH_OF_ZOE'), (3, 'nopass', '{NO_PASSWORD}', null);"""
ITSDANGEROUS = f"""create table user (id integer primary key, username varchar(20) unique not null,
    email varchar(120) unique not null, password varchar(60), confirmed_on datetime);
insert into user values
    (1, 'dora', '{DORA}', '{BCRYPT}', '{MOMENT}'),
    (2, 'zoe', '{ZOE}', '{BCRYPT}', null),
    (3, 'nopass', '{NO_PASSWORD}', null, null);"""
STOCK = f"""create table "user" (id integer primary key, email varchar(255) not null unique,
    username varchar(255) unique, us_phone_number varchar(128) unique, password varchar(255),
    active boolean not null, fs_uniquifier varchar(64), confirmed_at timestamp without time zone);
insert into "user" values
    (1, '{DORA}', 'dora', '+14155550142', '{ARGON2}', true, null, '{MOMENT}'),
    (2, '{ZOE}', null, null, '{ARGON2_NON_ASCII}', true, null, null),
    (3, '{INACTIVE}', null, null, '{ARGON2}', false, null, null),
    (4, '{NO_PASSWORD}', null, null, null, true, null, null);"""
DJANGO = f"""create table auth_user (id integer primary key, password varchar(128) not null,
    username varchar(150) not null unique, email varchar(254) not null, is_active boolean not null);
insert into auth_user values
    (1, '{QUICK_HASHES["django pbkdf2"]}', 'Dora', '{DORA}', true),
    (2, '{QUICK_HASHES["django bcrypt sha256"]}', 'zoe', '{ZOE}', true),
    (3, '{QUICK_HASHES["django scrypt"]}', 'ina', '{INACTIVE}', false),
    (4, '!Abc123', 'nopass', '{NO_PASSWORD}', true),
    (5, '{QUICK_HASHES["django argon2"]}', 'nomail', '', true);"""
DEVISE = f"""create table users (id integer primary key, email varchar not null,
    encrypted_password varchar not null, confirmed_at timestamp);
insert into users values
    (1, '{DORA}', '{QUICK_HASHES["devise"]}', '{MOMENT}'), (2, '{ZOE}', '{QUICK_HASHES["devise"]}', null);"""
LARAVEL = f"""create table users (id integer primary key, name varchar not null, email varchar not null,
    email_verified_at datetime, password varchar not null);
insert into users values
    (1, 'Dora D.', '{DORA}', '{MOMENT}', '{QUICK_HASHES["laravel"]}'), (2, 'Zoë', '{ZOE}', null, '{QUICK_HASHES["argon2"]}');"""


def jwt(kind: str, dora: str, zoe: str) -> str:
    return JWT.replace("BYTES_OR_TEXT", kind).replace("HASH_OF_DORA", dora).replace("HASH_OF_ZOE", zoe)


# A table for each export command of the guide, in its order.
SOURCES = [
    TOKENS,
    jwt("varchar(256)", SCRYPT, PBKDF2),
    jwt("varchar(256)", SCRYPT, BCRYPT),
    jwt("bytea", BCRYPT, QUICK_HASHES["devise"]),
    *(ITSDANGEROUS, STOCK, STOCK, DJANGO, DJANGO, DEVISE, LARAVEL),
]
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
