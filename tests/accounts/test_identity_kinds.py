"""Identity kinds of the admin's: an employee number signs in, recovers and is imported, like any other identity."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from support.admin import Admin
from support.commands import run
from support.database import statements_of
from support.foreign_hashes import HASHES, PASSWORD
from support.mailbox import Mailbox
from support.recovery import code_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts.identities import IdentityError
from app.accounts.identity_mappers import normalize_identity
from app.accounts.models import User
from app.db.engine import db
from app.pages import openapi
from app.settings.problems import SettingsError

SETTING = "SECURITY_USER_IDENTITY_ATTRIBUTES"
PATTERN = {"pattern": r"E\d{5}", "normalize": "upper"}
NUMBER = {"employee_number": {**PATTERN, "label": "employee number"}}
EMPLOYEES = {SETTING: ["email", NUMBER, "username"]}
ALICE, CAROL = "alice@example.com", "carol@example.com"


@pytest.fixture
def site(make_site: Any) -> Site:
    """A site where carol has an employee number."""
    built: Site = make_site(**EMPLOYEES)
    identities = (f"email:{CAROL}", "employee_number:e12345")
    run(built, "users", "create", *identities, "--password", OLD_PASSWORD, "--active")
    return built


# --- The owner's way back ---


@BOTH
@pytest.mark.requirement("R18", "R67")
def test_imported_employee_number_recovers_an_account(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(**EMPLOYEES)
    file = tmp_path / "users.csv"
    file.write_text(f"email,password_hash,employee_number\n{CAROL},{HASHES['laravel']},e12345\n")
    assert run(site, "users", "import", str(file)).output == "1 accounts imported\n"
    assert site.password_works(PASSWORD, "e12345")
    assert code_of(site, site.new_link("E12345")) == "redeemed"
    assert site.password_works(NEW_PASSWORD, "E12345")
    site.work()
    browser = site.visitor()
    assert ">Email, employee number, or username</label>" in browser.open("/reset").text
    assert browser.submit("/reset", identity=" e12345").location == "/check-mail"
    site.work()
    assert site.mailbox.mails[-1]["To"] == CAROL
    form = browser.open(site.last_link(), follow_redirects=True).text
    assert f'value="{CAROL}" autocomplete="username"' in form  # for password managers
    assert browser.set_password(site.last_link(), "an entirely different password").location == "/reset-done"
    assert browser.sign_in("E12345", "an entirely different password")


# --- Canonical and unique, whatever writes it ---


@BOTH
@pytest.mark.requirement("R39")
def test_employee_number_is_stored_in_normal_form_and_once(site: Site, tmp_path: Path) -> None:
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
    twin = ("email:dora@example.com", "employee_number:E12345", "--password", OLD_PASSWORD)
    assert "another account has one" in run(site, "users", "create", *twin, fails=True).stderr
    file = tmp_path / "users.jsonl"
    rows = [{"email": f"{number}@e.org", "employee_number": number} for number in ("e12345", "x", "e55555")]
    file.write_text("\n".join(map(json.dumps, rows)))
    refused = run(site, "users", "import", str(file), fails=True).stderr
    assert "line 1: an account with this employee_number already exists" in refused
    assert "line 2: employee_number: not valid" in refused


def test_admin_sends_a_reset_whatever_the_kinds(make_site: Any) -> None:
    """The worker finds the account by a kind that is configured, and by none that an earlier one takes."""
    for kinds in (["username"], [{"employee_number": {"pattern": "[a-z]+"}}, "email"]):
        site: Site = make_site(**{SETTING: kinds})
        run(site, "users", "send-reset", "#1")
        run(site, "users", "force-reset", "#1", "--quiet")
        site.work()
        assert [mail["To"] for mail in site.mailbox.mails] == [ALICE]
        site.mailbox.mails.clear()


@pytest.mark.requirement("R30")
def test_password_like_the_employee_number_is_refused(site: Site) -> None:
    assert code_of(site, site.new_link("e12345"), "e12345e12345e12345") == "password_common"


def test_first_kind_that_fits_is_looked_up_and_may_be_stored(make_site: Any) -> None:
    number = {"employee_number": {"pattern": "[a-z]+"}}
    for order, owner in (([number, "username"], CAROL), (["username", number], ALICE)):
        site: Site = make_site(**{SETTING: order})
        site.change(User, User.email == "bob@example.com", employee_number="alice", email=CAROL)
        site.ask("alice")
        site.work()
        assert site.mailbox.mails.pop()["To"] == owner
    with site.app.app_context(), pytest.raises(IdentityError, match=f"an earlier kind of {SETTING}"):
        db.session.query(User).filter_by(username="bob").one().employee_number = "number"


@pytest.mark.parametrize(
    ("kinds", "language", "label", "error"),
    [
        (["email"], "en", "Email", "Enter your email."),
        (["username", "email"], "en", "Username or email", "Enter your username or email."),
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
        page = visitor.open(path, headers=headers).text
        assert f">{label}</label>" in page
        assert ('inputmode="email"' in page) is (len(kinds) == 1)
        assert 'type="email"' not in page  # in which a browser refuses pasted addresses
    for identity, message in (("", error), ("x" * 300, label[1:])):
        refused = visitor.post_json("/reset", json={"identity": identity}, headers=headers)
        assert message in refused.json["response"]["field_errors"]["identity"][0]
    policy = visitor.open("/reset", headers={**headers, "Accept": "application/json"}).json["response"]
    assert policy["identity_label"] == label
    assert policy["identity_attributes"] == [
        kind if isinstance(kind, str) else next(iter(kind)) for kind in kinds
    ]


def test_openapi_lists_the_configured_kinds() -> None:
    schemas = openapi.document(load_settings(**EMPLOYEES))["components"]["schemas"]
    assert schemas["IdentityKind"]["enum"] == ["email", "employee_number", "username"]
    assert "email, employee_number, username" in schemas["Identity"]["description"]


# --- Declared kinds, and mappers ---

DIGITS = {**dict.fromkeys(("123-456", "12 34 56", "١٢٣٤٥٦", "१२३-٤٥٦"), "123456"), "a123456": None, "²": None}


@pytest.mark.parametrize(
    ("declared", "forms"),
    [
        (PATTERN, {" e12345\t": "E12345", "Ｅ12345": "E12345", "12345": None, "E12345x": None, "": None}),
        ({"pattern": "[a-z]+", "normalize": "lower"}, {"ALICE": "alice", "alice2": None}),
        ({"pattern": r"\d{6}", "normalize": "digits"}, DIGITS),
        ({"pattern": "[A-Z]{2}"}, {"AB": "AB", "ab": None}),
        ({"pattern": ".*"}, {"": None, "a\nb": None, "x" * 255: None}),
    ],
)
def test_declared_kind_needs_no_python(declared: dict[str, str], forms: dict[str, str | None]) -> None:
    app = create_app(load_settings(**{SETTING: [{"employee_number": declared}]}))
    with app.app_context():
        assert {typed: normalize_identity("employee_number", typed) for typed in forms} == forms


MAPPERS = r"""
import re
from app.accounts.identity_mappers import RecoveryUsernameUtil

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

class UsernameUtil(RecoveryUsernameUtil):
    def normalize(self, username):
        return {}[username] if username == "boom" else super().normalize(username)
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


def test_mapper_that_ignores_case_finds_every_spelling(make_site: Any, acme: Any) -> None:
    for ignores_case in (True, False):
        site: Site = make_site(**acme("number", case_insensitive=ignores_case))
        with site.app.app_context():
            db.session.get_one(User, 1).employee_number = "E12345"
            db.session.commit()
        assert site.password_works(OLD_PASSWORD, "E12345")
        assert site.password_works(OLD_PASSWORD, "e12345") is ignores_case


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


def test_kind_that_cannot_be_used_is_named_at_start() -> None:
    names = dict.fromkeys(("active", "get_id", "language"), "accounts have something else of that name")
    for name, problem in {**names, "employee_number": "a pattern may nest repetitions"}.items():
        with pytest.raises(SettingsError, match=problem):
            create_app(load_settings(**{SETTING: ["email", {name: {"pattern": r"(\d+)+x"}}]}))


@pytest.mark.requirement("R66")
def test_mapper_that_fails_later_breaks_no_request(
    make_site: Any, acme: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site: Site = make_site(**acme("raises_later"))
    assert site.ask("boom").status_code == 200
    assert site.visitor().submit("/reset", identity="boom").location == "/check-mail"
    for identity in ("boom", "nobody"):
        body = {"identity": identity, "password": OLD_PASSWORD}
        assert site.visitor().post_json("/login", json=body).status_code == 400
    site.work()
    assert site.mailbox.mails == []
    assert "the mapper of employee_number failed: RuntimeError" in caplog.text
    assert "boom" not in caplog.text
    site = make_site(RECOVERY_CLASSES={"username_util_cls": "mappers_of_acme:UsernameUtil"})
    assert site.ask("boom").status_code == 400  # of no kind, and no error
    site.new_link("alice")


# --- The column ---


@BOTH
@pytest.mark.requirement("R39")
def test_column_is_added_by_one_command(database: Callable[[], str], mailbox: Mailbox) -> None:
    kinds = ["email", {"badge": {"pattern": r"\d{6}", "normalize": "digits"}}]
    uri = database()
    plain = Admin(uri, mailbox.port)
    admin = Admin(uri, mailbox.port, **{f"FLASK_{SETTING}": json.dumps(kinds)})

    # A kind without a column stops a worker, and `check` names it.
    assert "Run manage.py db add-identity badge." in admin.types("worker", "--once").stderr
    checked = json.loads(admin.types("check", "--format", "json").stdout)["findings"]
    [missing] = [finding for finding in checked if finding["id"] == "identity-column-missing"]
    assert (
        "Sparekey's own table has no column" in missing["what"]
    )  # not the application's (RECOVERY_ACCOUNTS)

    for before in (plain, admin):  # before or after the setting, and once more
        assert "Accounts have the column badge." in before.types("db", "add-identity", "badge").stdout
    created = admin.types("users", "create", "email:b@e.org", "badge:123 456", "--password", OLD_PASSWORD)
    assert created.returncode == 0, created.stderr
    assert "b@e.org, 123456" in admin.types("users", "show", "123-456").stdout

    # No migration drops the column or its index, whether or not a kind needs it.
    for either in (admin, plain):
        compared = either.types("db", "check")
        assert compared.returncode == 0, compared.stderr
        assert "No new upgrade operations detected" in compared.stderr + compared.stdout


def test_column_with_an_unusable_name_is_refused(site: Site) -> None:
    for kind, reason in {
        "Employee": "lower-case letters, digits and _",
        "password_hint": 'not "password"',
        "roles": "accounts have something else of that name",
    }.items():
        assert reason in run(site, "db", "add-identity", kind, fails=True).output


@BOTH
@pytest.mark.requirement("R1", "R2")
def test_known_and_unknown_employee_numbers_run_the_same_statements(site: Site) -> None:
    def observe(path: str, number: str) -> Any:
        with statements_of(site) as ran:  # from support.database
            answer: Any = site.visitor().post_json(path, json={"identity": number, "password": "a wrong one"})
        response = {name: value for name, value in answer.json["response"].items() if name != "csrf_token"}
        return answer.status_code, response, ran

    for path in ("/reset", "/login"):
        known = observe(path, "E12345")
        assert known == observe(path, "E99999"), path
        assert known[-1]
