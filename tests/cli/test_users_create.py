"""`users create` refuses a second account with the same identity."""

import pytest
from support.commands import run
from support.site import OLD_PASSWORD, Site

from app.accounts.models import User


@pytest.mark.requirement("R39")
def test_users_create_refuses_an_identity_that_is_taken(site: Site) -> None:
    accounts = site.rows(User)
    for identities in (("email:ALICE@EXAMPLE.COM",), ("email:d@example.com", "username:alice")):
        result = run(site, "users", "create", *identities, "--password", OLD_PASSWORD, "--active", fails=True)
        # Flask-Security's form has a username field only once an app of this process has enabled usernames.
        refusals = ("already associated", "another account has one of these identities")
        assert any(refusal in result.stderr for refusal in refusals)
    assert site.rows(User) == accounts
