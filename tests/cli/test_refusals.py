"""Commands that cannot do what an admin asks for say why, and change nothing."""

import re
import shlex
from unittest.mock import Mock

import pytest
from flask_security import SQLAlchemyUserDatastore
from sqlalchemy.exc import OperationalError
from support.commands import run
from support.database import dump
from support.site import NEW_PASSWORD, Site

from app.accounts.models import User
from app.db.audit import RecoveryEvent

NO_ACCOUNT, NOT_ACTIVE = "no account has this identity", "the account is not active"
REASON = "give a reason of 1 to 150 characters"
ADDRESS_NEEDED = "give email:carol@example.com"
# Flask-Security's form has a username field only once an app of this process has enabled usernames.
TAKEN = "already associated|another account has one of these identities"
CREATE = "users create --active --password 'the old password of alice'"
# The exit code, the command, and a pattern of its answer.
REFUSED = [
    (2, "users reset-link alice --reason '   '", REASON),
    (2, f"users reset-link alice --reason {'x' * 151}", REASON),
    (1, "users reset-link nobody@example.com --reason asked", NO_ACCOUNT),
    (1, "users reset-link inactive@example.com --reason asked", NOT_ACTIVE),
    (1, "users reset-link sso@example.com --reason asked", "it signs in another way"),
    (1, "users send-reset inactive@example.com", f"{NOT_ACTIVE}. Nothing was changed.$"),
    (1, "users send-reset sso@example.com", "the account has no password.*Nothing was changed.$"),
    (1, "users force-reset inactive@example.com", f"{NOT_ACTIVE}. Nothing was changed.$"),
    (1, "users force-reset '#99999999999999'", NO_ACCOUNT),
    (2, "links revoke", "give an identity, or --all"),
    (2, "links revoke alice --all", "give an identity, or --all"),
    (1, "links revoke nobody", NO_ACCOUNT),
    (2, "users confirm", "give an identity, or --all-existing"),
    (2, "users confirm alice --all-existing", "give an identity, or --all-existing"),
    (1, "users confirm nobody", NO_ACCOUNT),
    (2, f"{CREATE} email:ALICE@EXAMPLE.COM", TAKEN),
    (2, f"{CREATE} email:d@example.com username:alice", TAKEN),
    (2, f"{CREATE} 'not an address'", r"email: not valid \(RECOVERY_SPECIAL_USE_DOMAINS"),
    (2, f"{CREATE} email:d@corp.test", r"email: not valid \(RECOVERY_SPECIAL_USE_DOMAINS"),
    (2, f"{CREATE} d@example.com username:john.doe", r"username: not valid \(SECURITY_USERNAME_ALLOWED"),
    (2, f"{CREATE} d@example.com us_phone_number:12", r"us_phone_number: not valid \(SECURITY_PHONE"),
    (2, f"{CREATE} d@example.com nickname:d", "nickname: accounts have no such attribute"),
    (2, f"{CREATE} d@example.com roles:admin", "roles: accounts have no such attribute"),
    (2, f"{CREATE} d@example.com confirmed_at:yes", "yes"),
    (2, f"{CREATE} d@example.com confirmed_at:0001-01-01T00+1400", "out of range"),
    (2, f"{CREATE} d@example.com confirmed_at:2026-01-31T12:00:00Z", "write a time without colons"),
    (1, "users invite email:ALICE@example.com", TAKEN),
    (2, "users invite username:carol", ADDRESS_NEEDED),
    (2, "users invite carol@example.com password:x", ADDRESS_NEEDED),
    (1, "users invite 'not an address'", r"email: not valid \(RECOVERY_SPECIAL_USE_DOMAINS"),
    (2, "users invite carol@example.com language:klingon", "give a language"),
    (2, "users invite carol@example.com --client none", "no such client"),
    (1, "users invite carol@example.com --again", NO_ACCOUNT),
    (1, "users invite sso@example.com --again", "has not used its invitation"),
    (1, "outbox list --identity '!!! what is this ???'", NO_ACCOUNT),
    (2, "outbox list --state lost", "'lost' is not one of"),
    (1, "outbox show 7", "there is no message 7"),
    (2, "outbox show 99999999999999999999", "is not in the range"),
    (1, "outbox list --identity ''", NO_ACCOUNT),
    (1, "links revoke ''", NO_ACCOUNT),
    (1, "users confirm ''", NO_ACCOUNT),
]


@pytest.mark.requirement("R39", "R43")
@pytest.mark.parametrize(("code", "command", "reason"), REFUSED, ids=[words for _, words, _ in REFUSED])
def test_command_refuses_with_a_reason_and_changes_nothing(
    site: Site, code: int, command: str, reason: str
) -> None:
    before = dump(site)
    result = run(site, *shlex.split(command), fails=True)
    assert re.search(reason, " ".join(result.output.split()))
    assert result.exit_code == code
    assert dump(site) == before


def test_empty_identity_is_nobodys(site: Site) -> None:
    assert "That cannot be an account's identity" in run(site, "users", "show", "").output
    assert run(site, "events", "--source", "").output == "no matching events\n"


def test_second_role_of_a_name_is_not_said_to_be_created(site: Site) -> None:
    assert "created" in run(site, "roles", "create", "admin").output
    refusal = run(site, "roles", "create", "admin", fails=True).output
    assert "the database refuses this" in refusal
    assert "created" not in refusal


def test_role_that_an_account_has_is_not_given_again(site: Site) -> None:
    run(site, "roles", "create", "admin")
    run(site, "roles", "add", "alice", "admin")
    refusal = run(site, "roles", "add", "alice", "admin", fails=True).output
    assert "the account has this role already" in refusal
    assert "Cannot find role" in run(site, "roles", "add", "alice", "none", fails=True).output


def test_event_of_users_create_is_of_its_account(site: Site) -> None:
    words = ("language:de", "email:de@example.com", "username:dora")
    for attributes in (("username:de", "email:first@example.com"), words):
        run(site, "users", "create", *attributes, "--password", NEW_PASSWORD)
    assert [row["user_id"] for row in site.rows(RecoveryEvent)[-2:]] == [
        row["id"] for row in site.rows(User)[-2:]
    ]


def test_example_in_the_help_of_users_create_works(site: Site) -> None:
    shown = run(site, "users", "create", "--help").output
    example = shown.partition("Example: manage.py ")[2].split()
    run(site, *example, "--password", NEW_PASSWORD)
    assert site.password_works(NEW_PASSWORD, "me")


def test_users_create_reports_an_error_of_the_database_in_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = OperationalError("INSERT INTO user", {}, Exception("database is locked"))
    monkeypatch.setattr(SQLAlchemyUserDatastore, "create_user", Mock(side_effect=locked))
    words = ("users", "create", "d@example.com", "--password", NEW_PASSWORD)
    expected = "Error: the database cannot be used: database is locked (SQLALCHEMY_DATABASE_URI)\n"
    assert run(site, *words, fails=True).output == expected
