"""Identity kinds of the admin's: an employee number signs in, recovers and is imported, like any other identity."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import IntegrityError
from support.admin import Admin
from support.commands import run
from support.foreign_hashes import HASHES, PASSWORD
from support.http_browser import HttpBrowser
from support.live import base_url, live
from support.mailbox import Mailbox, link_in
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts.identities import IdentityError, normalize_identity
from app.accounts.identity_mappers import match
from app.accounts.models import User
from app.db.engine import db
from app.pages import openapi
from app.settings.identities import IdentityKind
from app.settings.problems import SettingsError

SETTING = "SECURITY_USER_IDENTITY_ATTRIBUTES"
PATTERN = {"pattern": r"E\d{5}", "normalize": "upper"}
NUMBER = {"employee_number": {**PATTERN, "label": "employee number"}}
EMPLOYEES = {SETTING: ["email", NUMBER, "username"]}
CAROL = "carol@example.com"


def employ(site: Site, number: str = "e12345") -> None:
    """Make an account with an employee number."""
    identities = (f"email:{CAROL}", f"employee_number:{number}")
    run(site, "users", "create", *identities, "--password", OLD_PASSWORD, "--active")


# --- The owner's way back ---


@BOTH
@pytest.mark.requirement("R18", "R67")
def test_employee_number_recovers_an_account_in_the_browser(make_site: Any) -> None:
    with live(make_site, **EMPLOYEES) as site:
        employ(site)
        browser = HttpBrowser(base_url(site))
        assert ">Email, employee number, or username</label>" in browser.open("/reset").text
        assert browser.submit("/reset", identity=" e12345").url.path == "/check-mail"
        mail = site.mailbox.wait_for(1)
        assert mail["To"] == CAROL
        fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
        assert browser.submit(link_in(mail), **fields).url.path == "/reset-done"
        browser.submit("/login", identity="E12345", password=NEW_PASSWORD)
        assert browser.is_signed_in()


@BOTH
@pytest.mark.requirement("R18")
def test_imported_employee_number_recovers_an_account_by_json(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(**EMPLOYEES)
    file = tmp_path / "users.csv"
    file.write_text(f"email,password_hash,employee_number\n{CAROL},{HASHES['laravel']},e12345\n")
    assert run(site, "users", "import", str(file)).output == "1 accounts imported\n"
    assert site.password_works(PASSWORD, "e12345")
    site.ask("E12345")
    site.work()
    assert site.mailbox.mails[-1]["To"] == CAROL
    body = {"password": NEW_PASSWORD}
    assert site.visitor().post_json(site.last_link(), json=body).status_code == 200
    assert site.password_works(NEW_PASSWORD, "E12345")


@BOTH
@pytest.mark.requirement("R1", "R2")
def test_known_and_unknown_employee_numbers_run_the_same_statements(make_site: Any) -> None:
    site: Site = make_site(**EMPLOYEES)
    employ(site)
    with site.app.app_context():
        engine = db.engine

    def trace(number: str, path: str, **fields: str) -> tuple[list[str], int, Any]:
        statements: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            statements.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        answer = site.visitor().post_json(path, json={"identity": number, **fields})
        event.remove(engine, "before_cursor_execute", note)
        response = {key: value for key, value in answer.json["response"].items() if key != "csrf_token"}
        return statements, answer.status_code, response

    for path, fields in (("/reset", {}), ("/login", {"password": "not the password"})):
        known, unknown = (trace(number, path, **fields) for number in ("E12345", "E99999"))
        assert known == unknown, path
        assert known[0], path


# --- Canonical and unique, whatever writes it ---


@BOTH
@pytest.mark.requirement("R39")
def test_employee_number_is_stored_in_normal_form_and_once(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(**EMPLOYEES)
    employ(site)
    assert [row["employee_number"] for row in site.rows(User) if row["email"] == CAROL] == ["E12345"]
    with site.app.app_context():
        bob = db.session.query(User).filter_by(username="bob").one()
        bob.employee_number = " e54321 "
        db.session.commit()
        assert bob.employee_number == "E54321"
        bob.employee_number = ""
        assert bob.employee_number is None
        with pytest.raises(IdentityError, match="employee_number: not valid"):
            bob.employee_number = "12"
        db.session.rollback()
        update = text("""UPDATE "user" SET employee_number = 'E12345' WHERE username = 'bob'""")
        with pytest.raises(IntegrityError):
            db.session.execute(update)
        db.session.rollback()
    twin = ("email:dora@example.com", "employee_number:E12345", "--password", OLD_PASSWORD)
    assert "another account has one" in run(site, "users", "create", *twin, fails=True).stderr
    file, new = tmp_path / "users.jsonl", {"email": "dora@example.com"}
    rows = ({"employee_number": "e12345"}, {"employee_number": "x"}, {"employee_number": "e55555"})
    file.write_text(
        "".join(json.dumps(new | row | {"email": f"d{n}@e.org"}) + "\n" for n, row in enumerate(rows))
    )
    refused = run(site, "users", "import", str(file), fails=True).stderr
    assert "line 1: an account with this employee_number already exists" in refused
    assert "line 2: employee_number: not valid" in refused


@BOTH
def test_users_show_and_outbox_know_the_employee_number(make_site: Any) -> None:
    site: Site = make_site(**EMPLOYEES)
    employ(site)
    site.ask("e12345")
    shown = run(site, "users", "show", "e12345").output
    assert f"{CAROL}, E12345" in shown
    assert "the email is waiting for its first attempt" in shown
    assert "reset instructions" in run(site, "outbox", "list", "--identity", "E12345").output
    assert "No account has the employee_number E99999" in run(site, "users", "show", "e99999").output


@pytest.mark.parametrize("kinds", [["username"], [{"employee_number": {"pattern": "[a-z]+"}}, "email"]])
def test_admin_sends_a_reset_whatever_the_kinds(make_site: Any, kinds: list[Any]) -> None:
    """The worker finds the account by a kind that is configured, and by none that an earlier one takes."""
    site: Site = make_site(**{SETTING: kinds})
    run(site, "users", "send-reset", "#1")
    run(site, "users", "force-reset", "#1", "--quiet")
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["alice@example.com"]


@pytest.mark.requirement("R30")
def test_password_like_the_employee_number_is_refused(make_site: Any) -> None:
    site: Site = make_site(SECURITY_PASSWORD_LENGTH_MIN=8, **EMPLOYEES)
    employ(site)
    refused = site.visitor().post_json(site.new_link("e12345"), json={"password": "e12345e12345"})
    assert refused.json["response"]["error_code"] == "password_common"


# --- The order of the kinds ---


def test_first_kind_that_fits_is_looked_up(make_site: Any) -> None:
    number = {"employee_number": {"pattern": "[a-z]+"}}
    for order, owner in ((["username", number], "alice@example.com"), ([number, "username"], CAROL)):
        site: Site = make_site(**{SETTING: order})
        site.change(User, User.email == "bob@example.com", employee_number="alice", email=CAROL)
        site.ask("alice")
        site.work()
        assert site.mailbox.mails.pop()["To"] == owner


def test_identity_that_an_earlier_kind_takes_is_not_stored(make_site: Any) -> None:
    site: Site = make_site(**{SETTING: ["username", NUMBER]})
    with site.app.app_context():
        bob = db.session.query(User).filter_by(username="bob").one()
        with pytest.raises(IdentityError, match="an earlier kind of SECURITY_USER_IDENTITY_ATTRIBUTES"):
            bob.employee_number = "E12345"


# --- Texts speak of the configured kinds ---


def test_with_addresses_alone_the_box_is_for_an_email(make_site: Any, page: Page) -> None:
    with live(make_site, **{SETTING: ["email"], "SECURITY_USERNAME_RECOVERY": True}) as site:
        for path in ("/reset", "/login", "/recover-username"):
            page.goto(base_url(site) + path)
            assert page.get_by_label("Email", exact=True).get_attribute("type") == "email", path
            assert "username or" not in page.inner_text("main"), path
        page.goto(f"{base_url(site)}/reset")
        page.get_by_label("Email", exact=True).fill("alice@example.com")
        page.get_by_role("button").click()
        assert link_in(site.mailbox.wait_for(1))


@pytest.mark.parametrize(
    ("kinds", "language", "label", "error"),
    [
        (["email"], "en", "Email", "Enter your email."),
        (["username", "email"], "en", "Username or email", "Enter your username or email."),
        (["email", NUMBER], "en", "Email or employee number", "Enter your email or employee number."),
        (["email", {"employee_number": PATTERN}], "en", "Email or employee number", "Enter your email or"),
        ([{"email": {"label": "work email"}}], "en", "Work email", "Enter your work email."),
        (["email", "username"], "de", "E-Mail oder Benutzername", "E-Mail oder Benutzername"),
    ],
)
def test_label_and_errors_name_the_configured_kinds(
    make_site: Any, kinds: list[Any], language: str, label: str, error: str
) -> None:
    visitor = make_site(**{SETTING: kinds}).visitor()
    headers = {"Accept-Language": language}
    for path in ("/reset", "/login"):
        assert f">{label}</label>" in visitor.open(path, headers=headers).text
    refused = visitor.post_json("/reset", json={"identity": ""}, headers=headers)
    assert error in refused.json["response"]["field_errors"]["identity"][0]
    long = visitor.post_json("/reset", json={"identity": "x" * 300}, headers=headers)
    assert label[1:] in long.json["response"]["field_errors"]["identity"][0]
    policy = visitor.open("/reset", headers={**headers, "Accept": "application/json"}).json["response"]
    assert policy["identity_label"] == label
    assert policy["identity_attributes"] == [
        next(iter([kind] if isinstance(kind, str) else kind)) for kind in kinds
    ]


def test_openapi_lists_the_configured_kinds() -> None:
    schemas = openapi.document(load_settings(**EMPLOYEES))["components"]["schemas"]
    assert schemas["IdentityKind"]["enum"] == ["email", "employee_number", "username"]
    assert "email, employee_number, username" in schemas["Identity"]["description"]


# --- Declared kinds ---


@pytest.mark.parametrize(
    ("declared", "forms"),
    [
        (PATTERN, {" e12345\t": "E12345", "Ｅ12345": "E12345", "12345": None, "E12345x": None, "": None}),
        ({"pattern": "[a-z]+", "normalize": "lower"}, {"ALICE": "alice", "alice2": None}),
        (
            {"pattern": r"\d{6}", "normalize": "digits"},
            {"123-456": "123456", "12 34 56": "123456", "١٢٣٤٥٦": "123456", "a123456": None, "²": None},
        ),
        ({"pattern": "[A-Z]{2}"}, {"AB": "AB", "ab": None}),
        ({"pattern": ".*"}, {"": None, "a\nb": None, "x" * 255: None}),
    ],
)
def test_declared_kind_needs_no_python(declared: dict[str, str], forms: dict[str, str | None]) -> None:
    app = create_app(load_settings(**{SETTING: [{"employee_number": declared}]}))
    with app.app_context():
        assert {typed: normalize_identity("employee_number", typed) for typed in forms} == forms


# --- Mappers ---

MAPPERS = r"""
import re

def number(typed):
    return typed if re.fullmatch(r"[A-Za-z]\d{5}", typed) else None

def raises(typed):
    return str(int(typed))

def returns_bytes(typed):
    return typed.encode() if typed == "E12345" else None

def returns_true(typed):
    return typed.isdigit()

def returns_a_long_text(typed):
    return typed * 1000

def is_unstable(typed):
    return "E" + typed if typed.endswith("12345") else None

def raises_later(typed):
    if typed == "boom":
        raise RuntimeError(typed)
    return None
"""


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Returns the setting with a mapper of the module `mappers_of_acme`, outside of the tree."""
    (tmp_path / "mappers_of_acme.py").write_text(MAPPERS)
    monkeypatch.syspath_prepend(str(tmp_path))

    def configure(name: str, **details: Any) -> dict[str, Any]:
        mapper = {"mapper": f"mappers_of_acme:{name}", **details}
        return {SETTING: ["email", {"employee_number": mapper}, "username"]}

    return configure


@BOTH
def test_mapper_that_ignores_case_finds_every_spelling(make_site: Any, acme: Any) -> None:
    for ignores_case, spellings in ((True, ["E12345", "e12345"]), (False, ["E12345"])):
        site: Site = make_site(**acme("number", case_insensitive=ignores_case))
        employ(site, "E12345")
        for spelling in ("E12345", "e12345"):
            assert site.password_works(OLD_PASSWORD, spelling) is (spelling in spellings)


@pytest.mark.parametrize(
    ("mapper", "problem"),
    [
        ("raises", "employee_number fails for '1111"),
        ("returns_bytes", "employee_number fails for 'E12345': TypeError('it returns bytes"),
        ("returns_true", "TypeError('it returns bool"),
        ("returns_a_long_text", "TypeError('it returns str"),
        ("is_unstable", "it maps 'E12345', its own result, to something else"),
        ("nothing", "mappers_of_acme:nothing cannot be imported: AttributeError"),
        ("MAPPERS", "cannot be imported"),
        ("__name__", "mappers_of_acme:__name__ cannot be used: TypeError: it cannot be called"),
    ],
)
@pytest.mark.requirement("R65")
def test_mapper_that_fails_is_named_at_start(acme: Any, mapper: str, problem: str) -> None:
    """By the finding "identity-mapper"."""
    with pytest.raises(SettingsError) as caught:
        create_app(load_settings(**acme(mapper)))
    [found] = caught.value.problems
    assert found.name == SETTING
    assert problem in found.message


def test_pattern_that_takes_too_long_is_named_at_start() -> None:
    nested = {SETTING: [{"employee_number": {"pattern": r"(\d+)+x"}}]}
    with pytest.raises(SettingsError, match="a pattern may nest repetitions"):
        create_app(load_settings(**nested))


@pytest.mark.requirement("R66")
def test_mapper_that_fails_later_breaks_no_request(
    make_site: Any, acme: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site: Site = make_site(**acme("raises_later"))
    assert site.ask("boom").status_code == 200
    assert site.visitor().submit("/reset", identity="boom").location == "/check-mail"
    answers = [
        site.visitor().post_json("/login", json={"identity": identity, "password": OLD_PASSWORD})
        for identity in ("boom", "nobody")
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    site.work()
    assert site.mailbox.mails == []
    assert "the mapper of employee_number failed: RuntimeError" in caplog.text
    assert "boom" not in caplog.text


def test_replaced_username_rule_that_fails_breaks_no_request(
    make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rules_of_acme.py").write_text(
        "from app.accounts.identities import RecoveryUsernameUtil\n"
        "class UsernameUtil(RecoveryUsernameUtil):\n"
        "    def normalize(self, username):\n"
        "        return {}[username] if username == 'boom' else super().normalize(username)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    site: Site = make_site(RECOVERY_CLASSES={"username_util_cls": "rules_of_acme:UsernameUtil"})
    assert site.ask("boom").status_code == 400  # of no kind, and no error
    site.new_link("alice")


@pytest.mark.parametrize("name", ["active", "roles", "get_id", "language", "mf_recovery_codes"])
def test_kind_named_like_something_else_of_an_account_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="accounts have something else of that name"):
        create_app(load_settings(**{SETTING: ["email", {name: PATTERN}]}))


# --- The column ---


@BOTH
@pytest.mark.requirement("R39")
def test_column_is_added_by_one_command(database: Callable[[], str], mailbox: Mailbox) -> None:
    kinds = ["email", {"badge": {"pattern": r"\d{6}", "normalize": "digits"}}]
    uri = database()
    plain = Admin(uri, mailbox.port)
    admin = Admin(uri, mailbox.port, **{f"FLASK_{SETTING}": json.dumps(kinds)})

    # A kind without a column stops a worker, and `check` names it.
    stopped = admin.types("worker", "--once")
    assert stopped.returncode != 0
    assert "Run manage.py db add-identity badge." in stopped.stderr
    checked = json.loads(admin.types("check", "--format", "json").stdout)["findings"]
    assert "identity-column-missing" in [finding["id"] for finding in checked]

    for before in (admin, plain):  # before or after the setting, and once more
        assert "Accounts have the column badge." in before.types("db", "add-identity", "badge").stdout
    created = admin.types("users", "create", "email:b@e.org", "badge:123 456", "--password", OLD_PASSWORD)
    assert created.returncode == 0, created.stderr
    assert "badge: " not in admin.types("users", "show", "123-456").stderr
    assert "b@e.org, 123456" in admin.types("users", "show", "123-456").stdout
    assert admin.types("worker", "--once").returncode == 0
    assert "db add-identity badge" in plain.types("events", "--kind", "admin").stdout

    # No migration drops the column or its index, whether or not a kind needs it.
    for either in (admin, plain):
        compared = either.types("db", "check")
        assert compared.returncode == 0, compared.stderr
        assert "No new upgrade operations detected" in compared.stderr + compared.stdout


@BOTH
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_column_has_a_unique_index(site: Site) -> None:
    with site.app.app_context():
        indexes = {index["name"]: index for index in inspect(db.engine).get_indexes("user")}
    index = indexes["uq_user_employee_number"]
    assert (index["column_names"], bool(index["unique"])) == (["employee_number"], True)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("Employee", "lower-case letters, digits and _"),
        ("password_hint", 'not "password"'),
        ("roles", "accounts have something else of that name"),
        ("active", "accounts have something else of that name"),
        ("x; DROP TABLE user", "lower-case letters"),
    ],
)
def test_column_with_an_unusable_name_is_refused(site: Site, kind: str, reason: str) -> None:
    assert reason in run(site, "db", "add-identity", kind, fails=True).output


def test_digits_of_any_script_are_kept() -> None:
    digits = IdentityKind(pattern=r"\d+", normalize="digits")
    assert match(digits, "१२३-٤٥") == "12345"
