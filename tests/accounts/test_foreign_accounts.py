"""Accounts in another application's table: found by any identity, read where they are, and never copied."""

import json
import re
import shutil
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from support import servers
from support.application import EVERYWHERE, OLD_HASH, SIGN_IN, Application, deploy
from support.commands import hand_over, run
from support.live import base_url, live
from support.mailbox import link_in, text_of
from support.outbox import make_due, shift
from support.receiver import receiving
from support.recovery import code_of, object_to
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.db.engine import db

ALICE = "alice@example.com"


@pytest.fixture
def site(application: Application, make_site: Any) -> Site:
    built: Site = make_site(**application.deployment())
    return built


def mailed_to(site: Site, typed: str) -> list[str]:
    """Request a link, work, and return the recipients of the mails."""
    site.mailbox.mails.clear()
    site.ask(typed)
    site.work()
    return [str(mail["To"]) for mail in site.mailbox.mails]


@EVERYWHERE
def test_account_is_found_by_each_identity_recovered_and_never_copied(
    application: Application, site: Site
) -> None:
    before = application.user()
    for typed in (ALICE, "Alice@Example.com", "ALICE", "+14155550123", "(415) 555-0123", "alice"):
        link = site.new_link(typed)
        assert site.mailbox.mails[-1]["To"] == ALICE
    assert site.visitor().set_password(link).location == "/reset-done"
    assert application.signs_in(NEW_PASSWORD)
    assert not application.signs_in(OLD_PASSWORD)
    assert {**application.user(), "password": None} == {**before, "password": None}
    site.work()
    assert "new password" in site.mailbox.mails[-1]["Subject"]
    [stub] = site.rows(User)
    assert (stub["external_id"], stub["password"]) == ("1", None)
    values = [str(value) for value in stub.values()]
    assert not [value for value in values if "alice" in value or "example" in value or OLD_HASH in value]


@EVERYWHERE
def test_account_that_cannot_be_recovered_gets_the_same_answer_and_no_mail(site: Site) -> None:
    answer = site.ask().json
    for typed in ("nobody@example.com", "nobody", "+14155550199", "inactive@example.com", "?"):
        assert site.ask(typed).json == answer, typed
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == [ALICE]


@EVERYWHERE
def test_request_reads_no_table_of_the_application(site: Site) -> None:
    statements: list[str] = []
    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    site.ask()
    asked = len(statements)
    site.work()
    assert asked
    assert not [statement for statement in statements[:asked] if "users" in statement]
    assert [statement for statement in statements[asked:] if "users" in statement]


TIME = "2026-01-02 03:04:05"
FLAGS = [
    ("is_active", "is_active", True, False),
    ("!is_active", "is_active", False, True),
    ("!changed_at", "changed_at", None, TIME),
    ("changed_at", "changed_at", TIME, None),
    ("!status", "status", None, "2026-01-02 03:04 UTC"),
    ("status=active|trial", "status", "trial", "banned"),
    ("!status=banned", "status", "active", "banned"),
    ("status=1", "status", "1", "0"),
]


@EVERYWHERE
@pytest.mark.parametrize("setting", ["active", "confirmed"])
def test_condition_on_a_column_decides(application: Application, make_site: Any, setting: str) -> None:
    for flag, column, well, ill in FLAGS:
        site: Site = make_site(**application.deployment(**{"active": "", setting: flag}))
        for value, mails in ((well, [ALICE]), (ill, [])):
            application.execute(f"UPDATE users SET {column} = :value WHERE id = 1", value=value)
            assert mailed_to(site, ALICE) == mails, flag
        reason = {"active": "the account is not active", "confirmed": "the address is not confirmed"}[setting]
        assert site.messages()[-1]["reason"] == reason


@EVERYWHERE
def test_each_of_several_conditions_must_be_met_when_a_link_is_mailed_and_when_it_is_used(
    application: Application, make_site: Any
) -> None:
    """An application that marks deleted rows and blocks others."""
    site: Site = make_site(**application.deployment(active=["status=ok|trial", "!changed_at"]))
    fine = "UPDATE users SET status = 'ok', changed_at = NULL WHERE id = 1"
    changes = ("status = 'banned'", "status = NULL", f"changed_at = '{TIME}'")
    for change in changes:
        application.execute(fine)
        assert mailed_to(site, ALICE) == [ALICE]
        link = site.last_link()
        application.execute(f"UPDATE users SET {change} WHERE id = 1")
        assert mailed_to(site, ALICE) == []
        assert site.messages()[-1]["reason"] == "the account is not active"
        assert code_of(site, link) == "account_unavailable", change
    application.execute(fine)
    assert code_of(site, link) == "redeemed"


# --- Spellings ---


@EVERYWHERE
def test_username_follows_the_applications_rules(application: Application, site: Site) -> None:
    for name in ("jane.doe+x@shop", "Jane Doe", "żółw_7", "12345"):
        application.execute("UPDATE users SET username = :name WHERE id = 1", name=name)
        assert mailed_to(site, name) == [ALICE], name


@EVERYWHERE
def test_exact_spelling_wins_and_otherwise_each_account_gets_a_link_of_its_own(
    application: Application, site: Site
) -> None:
    application.execute("DELETE FROM users")
    variants = ["BOB@EXAMPLE.COM", "Bob@example.com", "bob@example.com"]
    for email in variants:
        application.add(email)
    assert mailed_to(site, "Bob@example.com") == ["Bob@example.com"]
    assert sorted(mailed_to(site, "bOb@example.com")) == variants
    [link] = [link_in(mail) for mail in site.mailbox.mails if mail["To"] == variants[0]]
    site.visitor().set_password(link)
    assert [application.signs_in(NEW_PASSWORD, email) for email in variants] == [True, False, False]


@EVERYWHERE
@pytest.mark.parametrize(
    "stored", ["«a@example.com»", "<mailto:m@example.com>", "'a@example.com'", "(a@example.com)"]
)
def test_address_that_only_a_reader_could_correct_gets_no_mail(
    application: Application, site: Site, stored: str
) -> None:
    application.execute("UPDATE users SET email = :email WHERE id = 1", email=stored)
    assert mailed_to(site, "alice") == []
    assert site.messages()[-1]["reason"] == "the account has no email address that can receive mail"


def test_row_that_is_not_utf_8_keeps_no_mail_from_another_account(
    application: Application, site: Site
) -> None:
    application.add("mallory@example.com", username="+14155550123")
    application.execute("UPDATE users SET phone = CAST(x'31FF' AS TEXT) WHERE username = '+14155550123'")
    assert ALICE in mailed_to(site, "+14155550123")


@EVERYWHERE
@pytest.mark.parametrize(
    ("username", "spelled"), [("4155550177", "+1 415 555 0177"), ("Bo", "bO"), ("030123456", "030 123456")]
)
def test_request_in_another_spelling_takes_no_link_from_an_owner(
    application: Application, site: Site, username: str, spelled: str
) -> None:
    application.execute("UPDATE users SET username = :name WHERE id = 1", name=username)
    application.add("mallory@example.com", username=spelled.replace(" ", "") if username == "Bo" else "m")
    site.ask(username)
    assert ALICE in mailed_to(site, spelled)


@EVERYWHERE
@pytest.mark.parametrize("refusal", ["450 4.1.2 Domain not found", "554 5.7.1 Rejected", "550 5.1.1 Unknown"])
def test_address_that_is_refused_keeps_no_mail_from_another_account_with_the_identity(
    application: Application, site: Site, refusal: str
) -> None:
    application.add("mallory@example.org", username="+14155550123")
    site.mailbox.refuse_only["mallory@example.org"] = refusal
    assert mailed_to(site, "+14155550123") == [ALICE]
    shift(site, by=-timedelta(hours=2))  # older than a link may be
    make_due(site)
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == [ALICE]


@EVERYWHERE
def test_command_for_an_identity_of_several_accounts_names_them_and_does_nothing(
    application: Application, site: Site
) -> None:
    application.add("mal\x1b[31mlory@example.com", username="+14155550123")
    for words in (("users", "force-reset"), ("users", "send-reset"), ("links", "revoke"), ("users", "show")):
        refusal = run(site, *words, "+14155550123", fails=True).output
        assert "\x1b" not in refusal
        assert re.search(rf"'#\d+' \({ALICE}\)", refusal), words
        assert re.search(r"'#\d+' \(mal.*lory@example.com\)", refusal), words
    assert application.signs_in(OLD_PASSWORD)
    assert site.messages() == []


@EVERYWHERE
def test_identity_that_another_account_has_of_another_kind_still_brings_a_link(
    application: Application, site: Site
) -> None:
    application.add("mallory@example.com", username="+14155550123", phone="alice")
    for identity in ("+14155550123", "alice"):
        assert sorted(mailed_to(site, identity)) == [ALICE, "mallory@example.com"]
        assert not [mail for mail in site.mailbox.mails if "· 127.0.0.1" in text_of(mail)]  # the requester
    application.execute(f"UPDATE users SET username = '{ALICE}' WHERE username LIKE '+%'")
    assert mailed_to(site, ALICE) == [ALICE]
    assert "· 127.0.0.1" in text_of(site.mailbox.mails[-1])


def test_letters_that_only_the_database_folds_are_another_account(
    postgresql: servers.PostgreSQL, application: Application, site: Site
) -> None:
    application.add("\u212aim@example.com")  # the Kelvin sign, which lower() makes a k
    assert mailed_to(site, "kim@example.com") == []


KEYS = {"uuid": "11111111-2222-3333-4444-555555555555", "bigint": "9007199254740993", "text": "user/7", "char(12)": "u7"}  # fmt: skip
COLUMNS = {"id": "Id", "email": "eMail", "password": "passwordHash", "username": "", "phone": "", "active": ""}  # fmt: skip


@pytest.mark.parametrize("application", ["postgresql"], indirect=True)
def test_key_of_any_type_is_found_by_its_index(application: Application, make_site: Any) -> None:
    application.execute('CREATE SCHEMA "Shop"')
    for kind, key in KEYS.items():
        application.execute(
            'DROP TABLE IF EXISTS "Shop"."User"',
            f'CREATE TABLE "Shop"."User" ("Id" {kind} PRIMARY KEY, "eMail" char(40), "passwordHash" char(70))',
            f"INSERT INTO \"Shop\".\"User\" VALUES ('{key}', 'carol@example.com', '{OLD_HASH}')",
        )
        site: Site = make_site(**application.deployment(table="Shop.User", **COLUMNS))
        site.visitor().set_password(site.new_link("carol@example.com"))
        [stored] = application.execute('SELECT "passwordHash" AS hash FROM "Shop"."User"')
        assert len(stored["hash"].rstrip()) == 60
        assert stored["hash"].rstrip() != OLD_HASH
        assert site.rows(User)[-1]["external_id"] == key
        site.work()  # mails the notice


@pytest.mark.parametrize("application", ["postgresql"], indirect=True)
def test_text_typed_for_a_column_of_numbers_is_nobody(application: Application, site: Site) -> None:
    application.execute("ALTER TABLE users ALTER phone TYPE bigint USING 14155550123")
    assert mailed_to(site, "nobody") == []
    assert mailed_to(site, ALICE) == [ALICE]


# --- The application's database changes or is away ---


@EVERYWHERE
def test_table_that_changes_holds_all_mail_until_it_is_mended_and_no_attempt_counts(
    application: Application, make_site: Any
) -> None:
    site: Site = make_site(**application.deployment())
    site.new_link()  # with statements that the connection knows
    site.mailbox.mails.clear()
    application.execute("ALTER TABLE users RENAME COLUMN password TO secret")
    site.ask()
    site.ask("nobody@example.com")
    with pytest.raises(Exception, match=r"RECOVERY_ACCOUNTS: .*password"):
        site.work()
    assert {(row["state"], row["attempts"]) for row in site.messages()[-2:]} == {("waiting", 0)}
    application.execute("ALTER TABLE users RENAME COLUMN secret TO password")
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == [ALICE]


def test_worker_says_at_its_start_that_the_table_cannot_be_used(
    application: Application, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Or an operator who starts it with a wrong column hears of that at the first request."""
    monkeypatch.setattr("app.mail.worker.run", lambda *_: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    away = "the application's accounts cannot be used. RECOVERY_ACCOUNTS: no such table"
    run(site, "worker")
    assert away not in caplog.text
    application.execute("ALTER TABLE users RENAME TO away")
    run(site, "worker")
    assert away in caplog.text


@EVERYWHERE
def test_messages_are_listed_without_accounts_while_the_table_cannot_be_used(
    application: Application, site: Site
) -> None:
    site.new_link()
    row = run(site, "outbox", "list").output.splitlines()[-1]
    application.execute("ALTER TABLE users RENAME TO away")
    shown = run(site, "outbox", "list").output
    assert "The table users cannot be used: RECOVERY_ACCOUNTS: " in shown
    assert shown.splitlines()[-1].split() == [word for word in row.split() if word != ALICE]
    assert "reset instructions" in run(site, "outbox", "show", "1").output
    listed = json.loads(run(site, "outbox", "list", "--format", "json").stdout)
    assert (listed["problems"] != [], [one["account"] for one in listed["messages"]]) == (True, [None])
    assert "cannot be used" in run(site, "outbox", "list", "--identity", "alice", fails=True).output


@EVERYWHERE
def test_account_whose_flag_cannot_be_read_holds_no_mail_of_others(
    application: Application, make_site: Any
) -> None:
    """Or a stranger who can bring about such a row could keep everyone from recovering."""
    site: Site = make_site(**application.deployment(confirmed="!status"))
    application.add("odd@example.com", status="f")
    for identity in ("odd@example.com", ALICE):
        site.ask(identity)
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == [ALICE]
    odd = site.messages()[0]
    assert odd["state"] == "dropped"
    assert odd["reason"] == 'RECOVERY_ACCOUNTS: status holds text: name values, as in "status=yes"'
    link = site.last_link()
    application.execute(f"UPDATE users SET status = 'f' WHERE email = '{ALICE}'")
    assert code_of(site, link) == "account_unavailable"
    assert "status holds text" in run(site, "users", "show", ALICE).output


def test_file_keeps_its_journal_is_not_waited_for_and_is_opened_again_where_it_was_replaced(
    application: Application, site: Site
) -> None:
    assert application.file
    application.execute("PRAGMA journal_mode = DELETE")
    site.visitor().set_password(site.new_link())
    assert application.execute("PRAGMA journal_mode")[0]["journal_mode"] == "delete"
    connection = application.engine.raw_connection()
    connection.execute("BEGIN IMMEDIATE")  # type: ignore[attr-defined]  # sqlite3's
    assert site.ask().status_code == 200
    connection.rollback()
    connection.close()
    site.work()
    link, hidden = site.last_link(), application.file.with_suffix(".hidden")
    application.file.rename(hidden)
    assert site.ask().status_code == 200
    assert site.visitor().post_json(link, json={"password": NEW_PASSWORD}).status_code == 503
    with pytest.raises(Exception, match="RECOVERY_ACCOUNTS: unable to open"):
        site.work()
    shutil.copy(hidden, application.file)  # another inode: a restored backup
    application.engine.dispose()
    site.work()
    assert code_of(site, link, OLD_PASSWORD) == "redeemed"
    assert application.signs_in(OLD_PASSWORD)


# --- What is off, and what works ---


def test_pages_of_accounts_lead_to_the_application(site: Site) -> None:
    for path, target in {"/login": SIGN_IN, "/logout": "/", "/change": SIGN_IN, "/verify": SIGN_IN}.items():
        assert site.visitor().open(path).location == target, path
        body = {"identity": "alice", "password": OLD_PASSWORD}
        refusal: Any = site.visitor().post_json(path, json=body).json
        assert refusal["response"]["error_code"] == "invalid_request"
        assert "Sign in to the application" in refusal["response"]["errors"][0]
    assert site.visitor().open("/.well-known/change-password").location == "/change"
    assert site.visitor().open("/").location == "/login"
    paths = site.visitor().open("/openapi.json").json["paths"]
    assert [*paths] == ["/challenge", "/reset", "/reset/{token}"]


@pytest.mark.parametrize("names", [[], ["fs_uniquifier", "fs_token_uniquifier"]])
def test_signed_out_everywhere_is_said_where_it_is_true(
    application: Application, make_site: Any, names: list[str]
) -> None:
    site: Site = make_site(**application.deployment(uniquifier=names))
    application.execute("UPDATE users SET fs_uniquifier = 'a', fs_token_uniquifier = 'b'")
    visitor = site.visitor()
    visitor.set_password(site.new_link())
    page = visitor.open("/reset-done").text
    assert "sign in with your new password" in page
    site.work()
    for text in (page, " ".join(text_of(site.mailbox.mails[-1]).split())):
        assert ("signed out everywhere" in text) is bool(names)
    user = application.user()
    assert len({user["fs_uniquifier"], user["fs_token_uniquifier"], "a", "b"}) == 2 + len(names)


@EVERYWHERE
def test_time_of_the_change_is_the_databases_in_utc(application: Application, make_site: Any) -> None:
    site: Site = make_site(**application.deployment(changed_at="changed_at"))
    site.visitor().set_password(site.new_link())
    now = "CURRENT_TIMESTAMP" if application.file else "timezone('utc', now())"
    seconds = {True: "strftime('%s', {0}) - strftime('%s', {1})", False: "extract(epoch FROM {0} - {1})"}
    age = seconds[bool(application.file)].format(now, "changed_at")
    assert 0 <= application.execute(f"SELECT {age} AS age FROM users WHERE id = 1")[0]["age"] < 60


def test_commands_that_change_accounts_say_where_they_are(site: Site) -> None:
    for words in (
        ("users", "create", "email:bob@example.com", "--password", NEW_PASSWORD),
        ("users", "deactivate", "alice"),
        ("users", "change_password", "alice", "--password", NEW_PASSWORD),
        ("users", "settle-address", "alice", "--keep", "new"),
        ("users", "import", __file__),
        ("roles", "create", "admin"),
        ("roles", "add", "alice", "admin"),
    ):
        assert "the accounts are in your application" in run(site, *words, fails=True).output, words


@EVERYWHERE
def test_commands_of_recovery_know_the_accounts(application: Application, site: Site) -> None:
    run(site, "users", "send-reset", "ALICE")
    site.work()
    shown = run(site, "users", "show", "#1").output
    for words in (ALICE, "account     ", "bcrypt", "the relay accepted the email"):
        assert words in shown
    assert ALICE in run(site, "outbox", "list", "--identity", "alice").output
    link = site.last_link()
    assert run(site, "links", "revoke", "alice").output == "1 link revoked\n"
    assert code_of(site, link) == "link_revoked"
    run(site, "users", "force-reset", "alice")
    assert not application.signs_in(OLD_PASSWORD)
    assert application.user()["password"].startswith("$2b$10$")
    site.work()
    instructions, notice = site.mailbox.mails[1:]
    assert notice["Subject"] == "Your Sparekey password was changed"
    assert code_of(site, link_in(instructions), OLD_PASSWORD) == "password_unchanged"
    assert code_of(site, hand_over(site)) == "redeemed"
    assert application.signs_in(NEW_PASSWORD)


def test_own_tables_are_made_in_a_schema_of_their_own(postgresql: servers.PostgreSQL) -> None:
    application = Application(postgresql.create(), None)
    application.execute("CREATE TABLE users (id integer)", "CREATE TABLE alembic_version (version_num text)")
    for _ in range(2):
        deploy(**application.deployment(own_schema="Spare_key"))
    tables = application.execute("SELECT schemaname AS place, tablename AS name FROM pg_tables")
    own = {row["name"] for row in tables if row["place"] == "Spare_key"}
    assert {row["name"] for row in tables if row["place"] == "public"} == {"users", "alembic_version"}
    assert {"user", "outbox_message", "sparekey_version"} <= own
    application.engine.dispose()


@EVERYWHERE
def test_identity_kind_of_the_admins_own_is_found_in_its_column(
    application: Application, make_site: Any
) -> None:
    kind = {"employee_number": {"pattern": "[A-Z]{2}[0-9]+", "normalize": "upper"}}
    kinds = ["email", "username", "us_phone_number", kind]
    deployment = application.deployment(identities={"employee_number": "status"})
    site: Site = make_site(**deployment, SECURITY_USER_IDENTITY_ATTRIBUTES=kinds)
    application.execute("UPDATE users SET status = 'AB123' WHERE id = 1")
    assert mailed_to(site, "ab123") == [ALICE]
    assert f"{ALICE}, alice, +14155550123, AB123" in run(site, "users", "show", "ab123").output


def test_support_is_told_that_no_account_has_an_identity_of_whatever_kind(site: Site) -> None:
    """All kinds are looked up, so no kind is named."""
    for identity in ("+14155550199", "nobody", "(415) 555-0199", "!?"):
        assert f"No account has the identity {identity}: " in run(site, "users", "show", identity).output


@EVERYWHERE
def test_webhook_names_the_account_by_the_applications_id(application: Application, make_site: Any) -> None:
    with receiving() as receiver:
        site: Site = make_site(**application.deployment(), **receiver.settings)
        assert code_of(site, site.new_link()) == "redeemed"
        site.work()
        object_to(site, site.mailbox.mails[-1])
        site.post_events()
    events = [(call.type, call.event["data"]["account_id"]) for call in receiver.calls]
    ended = ("account.sessions_ended", "1")
    assert sorted(events) == sorted([("password.reset", "1"), ended, ("password.changed", "1"), ended])
    assert site.events().count("password_changed") == 2  # the owner is told as often


def test_doctor_knows_that_the_application_signs_its_users_in(
    application: Application, make_site: Any
) -> None:
    with live(make_site, **application.deployment()) as site:
        report = run(site, "doctor", base_url(site), "--format", "json").stdout
    found = {row["id"] for row in json.loads(report)["findings"]}
    assert not found & {"page-fails", "cookie-missing", "csrf-open"}
