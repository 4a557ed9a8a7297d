"""Accounts of another application come along: they sign in with the passwords that they have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask.testing import FlaskCliRunner
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

import manage
from app.accounts import imported_hashes
from app.accounts.models import User
from app.db.engine import db

PASSWORD = "the password from before"

# Made by the real libraries, of PASSWORD: Django 5.2.19, Werkzeug 3.1.9, Flask-Bcrypt 1.0.1 (bcrypt 5.0.0) and
# argon2-cffi 25.1.0. What Devise and Laravel write is bcrypt with another letter.
HASHES = {
    "django pbkdf2": "pbkdf2_sha256$1000000$BRR3z3s2hAf1PorrfCBClr$7kaJ2Y2nsM3LN/behePKq5/GhnuDUkp5S9GygGzRKmc=",
    "django pbkdf2 sha1": "pbkdf2_sha1$1000000$ix0Gx04xd8lHXMUco4VSxA$XG6Bn3dSHlQ1Bq4bFkCiscUTS5Q=",
    "django argon2": "argon2$argon2id$v=19$m=102400,t=2,p=8$emRFMmV4YWtuUDI0TEJtVjNzelJPTQ"
    "$t2AER4Sa2zPVecbENnsX1o4MkMFuzwS1VfRtGuiwUK0",
    "django bcrypt sha256": "bcrypt_sha256$$2b$12$.8qHM1nTHM3jZAXrz9iWM.56r8UQ6Akmsd9a7qPIOneo3OXdjWMSi",
    "django bcrypt": "bcrypt$$2b$12$8auZI1Wwa3p3CNx0ZJQuwuRiRzm9RdQ/AWSwNOLnbBjiWLKimGU1i",
    "django scrypt": "scrypt$16384$UC1puaECiZieKvVFBygitt$8$5$Dbm1hBEnjYrHAFAsHNT/i1ZFoCi+nidlQVqba4NntN/3vtyYsLoqne"
    "pg8E96fK735Y/kJyV56D1JgmYZDKj43w==",
    "werkzeug scrypt": "scrypt:32768:8:1$pcGJllOfFZ0fsTZ4$dfd1df139f75aa8da310c5c5d98f155fb91e6044d3d5c12306e82afb88961e"
    "9f484c3eb3898b49599241bb272f3657bedd013bb63639b1012536b90537e6d40b",
    "werkzeug pbkdf2": "pbkdf2:sha256:1000000$Dr0koL3kcefjkytP"
    "$eacadc94294710b7d158602cdee2c01bcd2f146333589604d78b388ae162bf34",
    "flask-bcrypt": "$2b$10$55WUGdiaMTvw5uos3LnPyOyWH3oBuIDsbkPwMUjbDsnywwNYVL9aa",
    "devise": "$2a$10$vIMen.RRYE4nLUkDqM9/gOqtKueStgWGwvd6j3spq1OSB8ZtqbqSi",
    "laravel": "$2y$10$55WUGdiaMTvw5uos3LnPyOyWH3oBuIDsbkPwMUjbDsnywwNYVL9aa",
    "argon2": "$argon2id$v=19$m=65536,t=3,p=4$NrTRaNbbLfGC1TZ1f/lVVg$xdSAcrxRXSE8xuNGb/xWrMaQehYzl0GIIPtFZK3J7yk",
}


def imports(site: Site, file: Path, *words: str, fails: bool = False) -> Result:
    result = FlaskCliRunner(site.app).invoke(manage.cli, ["users", "import", str(file), *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code != 0) is fails, result.output
    return result


def written(tmp_path: Path, *rows: dict[str, Any], name: str = "users.jsonl") -> Path:
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def password_of(site: Site, email: str) -> str | None:
    with site.app.app_context():
        return db.session.query(User.password).filter_by(email=email).scalar()


@pytest.mark.parametrize("source", HASHES)
def test_whoever_comes_from_elsewhere_signs_in_as_ever(site: Site, tmp_path: Path, source: str) -> None:
    """With the old password; it is hashed anew then, and a reset works at once."""
    imports(
        site,
        written(tmp_path, {"email": "dora@example.com", "username": "dora", "password_hash": HASHES[source]}),
    )
    assert str(password_of(site, "dora@example.com")).startswith(imported_hashes.MARK)
    assert not site.password_works(PASSWORD + "!", "dora")
    assert str(password_of(site, "dora@example.com")).startswith(imported_hashes.MARK)
    assert site.password_works(PASSWORD, "dora")
    assert str(password_of(site, "dora@example.com")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert site.password_works(PASSWORD, "dora@example.com")


def test_a_reset_works_at_once(site: Site, tmp_path: Path) -> None:
    imports(site, written(tmp_path, {"email": "dora@example.com", "password_hash": HASHES["laravel"]}))
    assert site.visitor().set_password(site.new_link("dora@example.com")).status_code == 302
    assert not site.password_works(PASSWORD, "dora@example.com")


# What Flask-Security-Too 5.9.2, as it comes, makes with the tests' salt of PASSWORD, and of one beyond ASCII.
OF_STOCK = {
    "argon2": (
        "$argon2id$v=19$m=65536,t=3,p=4$BOA8xxjDeI8RAiAEoPT+fw$EVyaZ8ztmyxILHuPsv7U/lVKx7czK7U+BTOc6uIFMwA",
        PASSWORD,
    ),
    "argon2 ü": (
        "$argon2id$v=19$m=65536,t=3,p=4$Y+x9L4XQeo+x9j7n3Nvb+w$4JInX16VTlt0/yY8pLcAn/ZDPAr94aV9Kygpkr8/Gro",
        "zoës pässwörd",
    ),
    "bcrypt": ("$2b$12$ukn98KdW7qe5Suk/rvTSGOROnMdyxuLb7APqJK.ebqwrTE5zYlQ2y", PASSWORD),
    "pbkdf2": (
        "$pbkdf2-sha512$25000$0tq7N0YoJUQoRYhRipHSmg$jWW4XulhFY4vEO.WW8V4O.CBEplWYZL5ySOFGHRCyaqthaOwrIHMEHBVgoDsVpS1/cSqRL1v85IsnGKToEwNfw",
        "zoës pässwörd",
    ),
    "sha512_crypt": (
        "$6$rounds=656000$69wkdHWlqPKyoZmI$lNBybkzvaPCT0nFNbJLdV2NmL6FAvPKs3TefTRbg4M2.FgHTM2pCG./RZ49tcqKx6PwWBHy5El8GQOtHqmujq1",
        PASSWORD,
    ),
}


@pytest.mark.parametrize("scheme", OF_STOCK)
def test_stock_flask_security_comes_along_with_its_salt(site: Site, tmp_path: Path, scheme: str) -> None:
    """Also where it normalizes what was typed in another way than we do."""
    hashed, password = OF_STOCK[scheme]
    file = written(tmp_path, {"email": "dora@example.com", "password_hash": hashed})
    imports(site, file, "--from-flask-security")
    assert not site.password_works(password + "!", "dora@example.com")
    assert site.password_works(password, "dora@example.com")
    assert str(password_of(site, "dora@example.com")).startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert site.password_works(password, "dora@example.com")


@pytest.mark.parametrize(
    "hashed", ["x", HASHES["werkzeug scrypt"], imported_hashes.STOCK + HASHES["laravel"]]
)
def test_a_hash_that_is_none_of_flask_securitys_is_refused(site: Site, tmp_path: Path, hashed: str) -> None:
    file = written(tmp_path, {"email": "dora@example.com", "password_hash": hashed})
    said = imports(site, file, "--from-flask-security", fails=True).output
    assert "password_hash: none of Flask-Security's" in said


def test_whose_hash_can_not_be_verified_resets(site: Site, tmp_path: Path) -> None:
    """An account without a password gets no reset mail, so it is given one that nobody knows."""
    old = "sha256$salt$" + "0" * 64  # Werkzeug's, before 3
    rows = [
        {"email": "dora@example.com", "password_hash": old},
        {"email": "eve@example.com", "password_hash": ""},
        {"email": "fay@example.com", "password_hash": HASHES["laravel"]},
    ]
    file = written(tmp_path, *rows)
    assert "line 1: password_hash: of no known format" in imports(site, file, fails=True).output
    said = imports(site, file, "--reset-unknown").output
    assert said == "3 accounts imported, 1 of them must reset\n"
    assert not site.password_works(PASSWORD, "dora@example.com")
    assert site.visitor().set_password(site.new_link("dora@example.com")).status_code == 302
    assert site.password_works(NEW_PASSWORD, "dora@example.com")
    assert password_of(site, "eve@example.com") is None
    assert site.password_works(PASSWORD, "fay@example.com")


def test_an_admin_sees_whose_hash_it_is(site: Site, tmp_path: Path) -> None:
    imports(site, written(tmp_path, {"email": "dora@example.com", "password_hash": HASHES["laravel"]}))
    show = ["users", "show", "dora@example.com"]
    assert "bcrypt, until the next sign-in" in FlaskCliRunner(site.app).invoke(manage.cli, show).output
    assert site.password_works(PASSWORD, "dora@example.com")
    assert "until the next" not in FlaskCliRunner(site.app).invoke(manage.cli, show).output


def test_a_long_password_of_bcrypt_is_cut_as_it_was(site: Site, tmp_path: Path) -> None:
    """At 72 bytes, by whatever made the hash; the new hash holds all of it."""
    import bcrypt

    long = "ü" * 60
    hashed = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    imports(site, written(tmp_path, {"email": "dora@example.com", "password_hash": hashed}))
    assert site.password_works(long, "dora@example.com")
    assert not site.password_works(long[:-1], "dora@example.com")


def test_all_columns_as_csv(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(
        b"\xef\xbb\xbfemail,username,us_phone_number,active,confirmed_at,password_hash\r\n"
        b'Dora@Example.com,"Dora",(415) 555-0142,yes,2026-01-31T12:00:00+02:00,'
        + HASHES["laravel"].encode()
        + b"\r\n"
        b"\r\n"
        b"eve@example.com,,,no,,!\r\n"
    )
    assert imports(site, file).output == "2 accounts imported\n"
    with site.app.app_context():
        dora = db.session.query(User).filter_by(email="dora@example.com").one()
        assert (dora.username, dora.us_phone_number, dora.active) == ("dora", "+14155550142", True)
        assert dora.confirmed_at.isoformat() == "2026-01-31T10:00:00"
        eve = db.session.query(User).filter_by(email="eve@example.com").one()
        assert (eve.username, eve.us_phone_number, eve.active, eve.password) == (None, None, False, None)
    for name in ("dora", "(415) 555-0142", "DORA@example.com"):
        assert site.password_works(PASSWORD, name)


BAD_ROWS = [
    ("{", "not a JSON object"),
    ("[" * 100_000, "not a JSON object"),
    ('"dora@example.com"', "not a JSON object"),
    ("[]", "not a JSON object"),
    ("null", "not a JSON object"),
    ({"email": "b@example.com", "mail": "x"}, "'mail' is unknown"),
    ({"email": 7}, "email: give text"),
    ({"email": ["b@example.com"]}, "email: give text"),
    ({"email": "b@example.com", "active": 1}, "active: give text"),
    ({"email": "b@example.com", "password_hash": {"a": 1}}, "password_hash: give text"),
    ({}, "email: needed"),
    ({"email": ""}, "email: needed"),
    ({"email": None}, "email: needed"),
    ({"email": "   "}, "email: needed"),
    ({"username": "dora"}, "email: needed"),
    ({"email": "nobody"}, "email: not a valid address"),
    ({"email": "a@b@example.com"}, "email: not a valid address"),
    ({"email": "=?utf-8?q?a=20?=@example.com"}, "email: not a valid address"),
    ({"email": "x" * 300 + "@example.com"}, "email: longer than 246 characters"),
    ({"email": "b\u0000c@example.com"}, "email: contains control characters"),
    ({"email": "b@example.com\nBcc: c@example.com"}, "email: contains control characters"),
    ({"email": "b@example.com", "username": "no blanks"}, "username: not a valid username"),
    ({"email": "b@example.com", "username": "12345"}, "username: not a valid username"),
    ({"email": "b@example.com", "username": "аlice"}, "username: not a valid username"),
    (
        {"email": "b@example.com", "us_phone_number": "555"},
        "us_phone_number: not a valid phone number",
    ),
    ({"email": "b@example.com", "password_hash": "hunter2hunter2"}, "password_hash: of no known format"),
    ({"email": "b@example.com", "password_hash": "5f4dcc3b5aa765d61d8327deb882cf99"}, "of no known format"),
    ({"email": "b@example.com", "password_hash": HASHES["laravel"][:-1]}, "or cut off"),
    ({"email": "b@example.com", "password_hash": HASHES["laravel"] + "x"}, "of no known format"),
    (
        {"email": "b@example.com", "password_hash": imported_hashes.MARK + HASHES["laravel"]},
        "of no known format",
    ),
    ({"email": "b@example.com", "password_hash": "scrypt:32768:8:1$salt$" + "0" * 300}, "longer than 246"),
    ({"email": "b@example.com", "active": "perhaps"}, "active: give yes or no"),
    ({"email": "b@example.com", "confirmed_at": "yesterday"}, "confirmed_at: give a time"),
    ({"email": "b@example.com", "language": "elvish"}, "language: give a language such as de"),
    ({"email": "b@example.com", "confirmed_at": "31.01.2026"}, "confirmed_at: give a time"),
    ({"email": "ALICE@example.com"}, "there is an account with this address already"),
    ({"email": "b@example.com", "username": "Alice"}, "there is an account with this username already"),
    ({"email": "b@example.com", "us_phone_number": "(415) 555-0123"}, "with this phone number already"),
    ({"email": "First@Example.com"}, "the same address as in line 1"),
    ({"email": "b@example.com", "username": "FIRST"}, "the same username as in line 1"),
    ({"email": "b@example.com", "us_phone_number": "415-555-0177"}, "the same phone number as in line 1"),
]
FIRST = {"email": "first@example.com", "username": "first", "us_phone_number": "+14155550177"}


def test_every_bad_row_is_named_and_nothing_is_written(site: Site, tmp_path: Path) -> None:
    assert len(BAD_ROWS) >= 30
    for row, words in BAD_ROWS:
        file = tmp_path / "users.jsonl"
        file.write_text(f"{json.dumps(FIRST)}\n{row if isinstance(row, str) else json.dumps(row)}\n")
        said = imports(site, file, fails=True).output
        assert "line 2: " in said, (row, said)
        assert words in said, (row, said)
        assert "1 bad rows of 2: nothing was imported" in said
        assert "hunter2" not in said
    assert password_of(site, "first@example.com") is None
    with site.app.app_context():
        assert not db.session.query(User).filter_by(email="first@example.com").count()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "needs email"),
        (b"name,password\n", "the header has 'name', 'password'"),
        (b"username\nx\n", "needs email"),
        (b"email,email\na,b\n", "each column once"),
        (b'email\n"a@example.com\n', "not valid CSV"),
        (b"email,username\na@example.com\n", "line 2: 1 fields, and the header has 2"),
        (b"email\na@example.com,x\n", "line 2: 2 fields, and the header has 1"),
        (b"email\ngr\xfc\xdfe@example.com\n", "line 2: email: not valid UTF-8"),
        (b"email\n" + b"x" * 200_000 + b"\n", "not valid CSV"),
    ],
)
def test_a_file_that_is_no_good_csv_is_refused(
    site: Site, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "users.csv"
    file.write_bytes(content)
    assert words in imports(site, file, fails=True).output


def test_what_is_good_can_be_taken_alone(site: Site, tmp_path: Path) -> None:
    file = written(
        tmp_path, FIRST, {"email": "nobody"}, {"email": "second@example.com"}, {"email": "first@example.com"}
    )
    said = imports(site, file, "--skip-bad").output
    assert "line 2: email: not a valid address" in said
    assert "line 4: the same address as in line 1" in said
    assert "2 accounts imported, 2 bad rows skipped" in said
    with site.app.app_context():
        assert (
            db.session.query(User).filter(User.email.in_(["first@example.com", "second@example.com"])).count()
            == 2
        )


def test_a_dry_run_writes_nothing(site: Site, tmp_path: Path) -> None:
    said = imports(site, written(tmp_path, FIRST), "--dry-run").output
    assert "1 accounts can be imported; nothing was written" in said
    with site.app.app_context():
        assert not db.session.query(User).filter_by(email="first@example.com").count()


def test_many_bad_rows_are_counted(site: Site, tmp_path: Path) -> None:
    said = imports(site, written(tmp_path, *[{"email": "nobody"}] * 250), fails=True).output
    assert said.count("not a valid address") == 100
    assert "and 150 more" in said


def test_a_hash_of_no_known_format_in_the_table_lets_nobody_in(site: Site) -> None:
    for stored in (
        imported_hashes.MARK,
        imported_hashes.MARK + "x",
        imported_hashes.MARK + HASHES["laravel"][:-1],
        HASHES["laravel"],
    ):
        site.change(User, password=stored)
        assert not site.password_works(OLD_PASSWORD)
        assert not site.password_works(PASSWORD)


def test_names_of_django_come_along_when_the_settings_let_them(make_site: Any, tmp_path: Path) -> None:
    rows = [
        {"email": f"dora{number}@example.com", "username": name, "password_hash": HASHES["laravel"]}
        for number, name in enumerate(("john.doe", "Me@home+x", "under_score", "zoë"))
    ]
    said = imports(make_site(), written(tmp_path, *rows), fails=True).output
    for line in range(1, 5):
        assert f"line {line}: username: not a valid username (SECURITY_USERNAME_ALLOWED_CHARS" in said
    kinds = {"SECURITY_USERNAME_ALLOWED_CHARS": ["L", "N", "P", "S"], "RECOVERY_USERNAME_ASCII": False}
    site = make_site(**kinds)
    assert "4 accounts imported" in imports(site, written(tmp_path, *rows)).output
    for row in rows:
        assert site.password_works(PASSWORD, row["username"])


@BOTH
def test_letters_that_databases_lower_each_in_its_way(site: Site, tmp_path: Path) -> None:
    """PostgreSQL lowers É, SQLite does not: who has one signs in, and is found when imported again."""
    rows = {"email": "Élise@example.com", "password_hash": HASHES["laravel"]}
    imports(site, written(tmp_path, rows))
    assert site.password_works(PASSWORD, "Élise@EXAMPLE.com")
    assert (
        "there is an account with this address already"
        in imports(site, written(tmp_path, rows), fails=True).output
    )
