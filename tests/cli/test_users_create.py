"""`users create` refuses a second account with the same identity."""

from __future__ import annotations

import pytest
from support.commands import run
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User


@pytest.mark.requirement("R39")
def test_users_create_refuses_an_identity_that_is_taken(site: Site) -> None:
    accounts = site.rows(User)
    for identities, message in (
        (("email:ALICE@EXAMPLE.COM",), "already associated"),
        (("email:d@example.com", "username:alice"), "another account has one of these identities"),
    ):
        result = run(site, "users", "create", *identities, "--password", OLD_PASSWORD, "--active", fails=True)
        assert message in result.stderr
    assert site.rows(User) == accounts
