"""`users create` refuses a second account with the same identity."""

from __future__ import annotations

import pytest
from click.testing import Result
from support.site import OLD_PASSWORD, Site

import manage
from app.accounts.models import User


def create(site: Site, *identities: str) -> Result:
    command = ["users", "create", *identities, "--password", OLD_PASSWORD, "--active"]
    return site.app.test_cli_runner().invoke(manage.cli, command)


@pytest.mark.requirement("R39")
def test_users_create_refuses_an_identity_that_is_taken(site: Site) -> None:
    count = len(site.rows(User))
    same_address = create(site, "email:ALICE@EXAMPLE.COM")
    assert same_address.exit_code == 2
    assert "already associated" in same_address.stderr
    same_username = create(site, "email:d@example.com", "username:alice")
    assert same_username.exit_code != 0
    assert isinstance(same_username.exception, SystemExit)  # no traceback
    assert "another account has one of these identities" in same_username.stderr
    assert len(site.rows(User)) == count
