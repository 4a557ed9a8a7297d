"""`manage.py users import`: accounts of other applications keep their passwords."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from click.testing import Result
from support.commands import run
from support.foreign_hashes import FLASK_SECURITY_HASHES, PASSWORD, QUICK_HASHES
from support.recovery import code_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts import imported_hashes
from app.accounts.models import User

BCRYPT = QUICK_HASHES["laravel"]
DORA = "dora@example.com"
OWN_HASH = "$argon2id$v=19$m=19456,t=2,p=1$"
STOCK = ("--from-flask-security",)
FIRST = {"email": "first@example.com", "username": "first", "us_phone_number": "+14155550177"}


def import_rows(
    site: Site, tmp_path: Path, *rows: dict[str, Any], options: tuple[str, ...] = (), fails: bool = False
) -> Result:
    file = tmp_path / "users.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run(site, "users", "import", str(file), *options, fails=fails)


def account(site: Site, email: str = DORA) -> dict[str, Any]:
    """Return the account's columns, or none."""
    return next((row for row in site.rows(User) if row["email"] == email), {})


def of_dora(hashes: list[str]) -> list[dict[str, Any]]:
    return [{"email": f"dora{number}@example.com", "password_hash": one} for number, one in enumerate(hashes)]


@pytest.mark.parametrize("is_stock", [False, True], ids=["other applications", "Flask-Security"])
def test_imported_password_signs_in_and_is_hashed_anew(site: Site, tmp_path: Path, is_stock: bool) -> None:
    long = "ü" * 60  # bcrypt covers 72 bytes, and the successor all
    cut_off = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    others = [*((hashed, PASSWORD) for hashed in QUICK_HASHES.values()), (cut_off, long)]
    cases = list(FLASK_SECURITY_HASHES.values()) if is_stock else others
    rows = of_dora([hashed for hashed, _ in cases])
    import_rows(site, tmp_path, *rows, options=STOCK if is_stock else ())
    for row, (hashed, password) in zip(rows, cases, strict=True):
        assert not site.password_works("!" + password, row["email"]), hashed
        assert account(site, row["email"])["password"].startswith(imported_hashes.MARK), hashed
        assert site.password_works(password, row["email"]), hashed
        assert account(site, row["email"])["password"].startswith(OWN_HASH), hashed
        assert not site.password_works(password[:-1], row["email"]), hashed


def test_imported_account_is_shown_signs_in_again_and_resets(site: Site, tmp_path: Path) -> None:
    dora, eve = ({"email": email, "password_hash": BCRYPT} for email in (DORA, "eve@example.com"))
    import_rows(site, tmp_path, dora, eve)
    assert "bcrypt, until the next sign-in" in run(site, "users", "show", DORA).output
    for _ in range(2):
        assert site.password_works(PASSWORD, DORA)
        assert "until the next" not in run(site, "users", "show", DORA).output
    assert code_of(site, site.new_link("eve@example.com")) == "redeemed"
    assert not site.password_works(PASSWORD, "eve@example.com")
    for stored in (BCRYPT, *(imported_hashes.MARK + text for text in ("", "x", BCRYPT[:-1]))):
        site.change(password=stored)  # not as the import writes it
        assert not site.password_works(OLD_PASSWORD), stored
        assert not site.password_works(PASSWORD), stored


def test_import_from_flask_security_refuses_other_hashes(site: Site, tmp_path: Path) -> None:
    rows = of_dora(["x", QUICK_HASHES["werkzeug scrypt"], imported_hashes.STOCK + BCRYPT])
    output = import_rows(site, tmp_path, *rows, options=STOCK, fails=True).output
    assert output.count("password_hash: none of Flask-Security's") == 3


def test_import_with_reset_unknown_sets_unknown_password(site: Site, tmp_path: Path) -> None:
    """An account without a password would get no reset mail."""
    of_old_werkzeug = "sha256$salt$" + "0" * 64
    unknown, without, known = rows = of_dora([of_old_werkzeug, "", BCRYPT])
    refusal = import_rows(site, tmp_path, *rows, fails=True).output
    assert "line 1: password_hash: of no known format" in refusal
    result = import_rows(site, tmp_path, *rows, options=("--reset-unknown",))
    assert result.output == "3 accounts imported, 1 of them must reset their password\n"
    assert not site.password_works(PASSWORD, unknown["email"])
    assert code_of(site, site.new_link(unknown["email"])) == "redeemed"
    assert site.password_works(NEW_PASSWORD, unknown["email"])
    assert account(site, without["email"])["password"] is None
    assert site.password_works(PASSWORD, known["email"])


def test_import_of_all_csv_columns(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "users.csv"
    dora = f'Dora@Example.com,"Dora",(415) 555-0142,yes,2026-01-31T12:00:00+02:00,{BCRYPT}'
    header = "\ufeffemail,username,us_phone_number,active,confirmed_at,password_hash"
    file.write_bytes("\r\n".join([header, dora, "", "eve@example.com,,,no,,!", ""]).encode())
    assert run(site, "users", "import", str(file)).output == "2 accounts imported\n"
    expected = {"username": "dora", "us_phone_number": "+14155550142", "active": True}
    assert account(site).items() >= {**expected, "confirmed_at": datetime(2026, 1, 31, 10)}.items()
    nothing = {"username": None, "us_phone_number": None, "active": False, "password": None}
    assert account(site, "eve@example.com").items() >= nothing.items()
    for identity in ("dora", "(415) 555-0142", "DORA@example.com"):
        assert site.password_works(PASSWORD, identity)


NEW = {"email": "a new address"}
USERNAME_SETTING = "username: not valid (SECURITY_USERNAME_ALLOWED_CHARS"
BAD_ROWS = [
    *((text, "not a JSON object") for text in ("{", "[" * 100_000, '"dora@example.com"', "[]", "null")),
    ({**NEW, "mail": "x"}, "'mail' is unknown"),
    *(({"email": email}, "email: give text") for email in (7, ["b@example.com"])),
    ({**NEW, "active": 1}, "active: give text"),
    ({**NEW, "password_hash": {"a": 1}}, "password_hash: give text"),
    *((row, "email: needed") for row in ({}, {"email": ""}, {"email": None}, {"email": "   "}, {"username": "dora"})),
    *(({"email": email}, "email: not valid") for email in ("nobody", "a@b@example.com", "=?utf-8?q?a=20?=@example.com")),
    ({"email": "x" * 300 + "@example.com"}, "email: longer than 246 characters"),
    *(({"email": f"b{end}"}, "contains control") for end in ("\u0000c@example.com", "@example.com\nBcc: c@example.com")),
    *(({**NEW, "username": name}, USERNAME_SETTING) for name in ("no blanks", "12345", "аlice")),
    ({**NEW, "us_phone_number": "555"}, "us_phone_number: not valid (SECURITY_PHONE"),
    ({**NEW, "password_hash": "hunter2hunter2"}, "password_hash: of no known format"),
    ({**NEW, "password_hash": "5f4dcc3b5aa765d61d8327deb882cf99"}, "of no known format"),
    ({**NEW, "password_hash": BCRYPT[:-1]}, "or cut off"),
    ({**NEW, "password_hash": BCRYPT + "x"}, "of no known format"),
    ({**NEW, "password_hash": imported_hashes.MARK + BCRYPT}, "of no known format"),
    ({**NEW, "password_hash": "scrypt:32768:8:1$salt$" + "0" * 300}, "longer than 246"),
    ({**NEW, "active": "perhaps"}, "active: give yes or no"),
    *(({**NEW, "confirmed_at": time}, "confirmed_at: give a time") for time in ("yesterday", "31.01.2026")),
    ({**NEW, "language": "elvish"}, "language: give a language such as de"),
    ({"email": "ALICE@example.com"}, "an account with this email already exists"),
    ({**NEW, "username": "Alice"}, "an account with this username already exists"),
    ({**NEW, "us_phone_number": "(415) 555-0123"}, "with this us_phone_number already"),
    ({"email": "First@Example.com"}, "the same email as in line 1"),
    ({**NEW, "username": "FIRST"}, "the same username as in line 1"),
    ({**NEW, "us_phone_number": "415-555-0177"}, "the same us_phone_number as in line 1"),
]  # fmt: skip


def test_import_names_every_bad_row_and_writes_nothing(site: Site, tmp_path: Path) -> None:
    file, lines = tmp_path / "users.jsonl", [json.dumps(FIRST)]
    for row, _ in BAD_ROWS:
        if isinstance(row, dict) and row.items() >= NEW.items():
            row = {**row, "email": f"b{len(lines)}@example.com"}
        lines.append(row if isinstance(row, str) else json.dumps(row))
    file.write_text("\n".join(lines) + "\n")
    output = run(site, "users", "import", str(file), fails=True).output
    problems = dict(line.split(": ", 1) for line in output.splitlines() if line.startswith("line "))
    for number, (_, reason) in enumerate(BAD_ROWS, start=2):
        assert reason in problems[f"line {number}"]
    assert f"{len(BAD_ROWS)} bad rows of {len(lines)}: nothing was imported" in output
    assert "hunter2" not in output
    assert not account(site, FIRST["email"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "needs email"),
        (b"name,password\n", "the header has 'name', 'password'"),
        (b"username\nx\n", "needs email"),
        (
            b"email;username\nx;y\n",
            "the header has 'email;username'; columns, separated by commas, are email",
        ),
        ("email,username\r\n".encode("utf-16"), "the file is not UTF-8"),
        (b"email,email\na,b\n", "each column once"),
        (b'email\n"a@example.com\n', "not valid CSV"),
        (b"email,username\na@example.com\n", "line 2: 1 fields, and the header has 2"),
        (b"email\ngr\xfc\xdfe@example.com\n", "line 2: email: not valid UTF-8"),
        (b"email\n" + b"x" * 200_000 + b"\n", "not valid CSV"),
    ],
)
def test_import_refuses_malformed_csv(site: Site, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "users.csv").write_bytes(content)
    assert reason in run(site, "users", "import", str(tmp_path / "users.csv"), fails=True).output


def test_import_refuses_json_that_is_not_utf_8(site: Site, tmp_path: Path) -> None:
    """PowerShell writes UTF-16."""
    (tmp_path / "users.jsonl").write_bytes('{"email": "dora@example.com"}'.encode("utf-16"))
    assert "not UTF-8" in run(site, "users", "import", str(tmp_path / "users.jsonl"), fails=True).output


def test_import_names_languages_that_are_not_offered(site: Site, tmp_path: Path) -> None:
    rows = [{"email": f"{name}@example.com", "language": name} for name in ("nl", "pt-BR", "de")]
    output = import_rows(site, tmp_path, *rows).output
    assert output == "3 accounts imported, 2 of them in a language that RECOVERY_LANGUAGES lacks\n"
    assert account(site, "nl@example.com")["language"] == "nl"  # it may be offered later


def test_import_with_skip_bad_writes_good_rows(site: Site, tmp_path: Path) -> None:
    rows = [FIRST, {"email": "nobody"}, {"email": "second@example.com"}, {"email": FIRST["email"]}]
    output = import_rows(site, tmp_path, *rows, options=("--skip-bad",)).output
    assert "line 2: email: not valid" in output
    assert "line 4: the same email as in line 1" in output
    assert "2 accounts imported, 2 bad rows skipped" in output
    assert account(site, FIRST["email"])
    assert account(site, "second@example.com")


def test_import_dry_run_writes_nothing(site: Site, tmp_path: Path) -> None:
    output = import_rows(site, tmp_path, FIRST, options=("--dry-run",)).output
    assert "1 accounts can be imported; nothing was written" in output
    assert not account(site, FIRST["email"])
    output = import_rows(site, tmp_path, *[{"email": "nobody"}] * 250, fails=True).output
    assert (output.count("email: not valid"), "and 150 more" in output) == (100, True)


@BOTH
def test_imported_address_with_accented_capital_signs_in_and_is_unique(site: Site, tmp_path: Path) -> None:
    """PostgreSQL's lower() changes É, SQLite's does not."""
    row = {"email": "Élise@example.com", "password_hash": BCRYPT}
    import_rows(site, tmp_path, row)
    assert site.password_works(PASSWORD, "Élise@EXAMPLE.com")
    output = import_rows(site, tmp_path, row, fails=True).output
    assert "an account with this email already exists" in output
