"""A change of address or of a factor needs a password that was entered within the last minute."""

from typing import Any

import pytest
from support.features import ALL_FEATURES, SECOND_FACTOR, confirm_addresses, one_time_code
from support.site import OLD_PASSWORD, Site, Visitor

from app.accounts.models import User

CHANGES: dict[str, dict[str, Any]] = {
    "/change-email": {"email": "thief@example.com"},
    "/tf-setup": {"setup": "authenticator"},
    "/us-setup": {"chosen_method": "authenticator"},
    "/mf-recovery-codes": {},
    "/wan-register": {"name": "mine", "usage": "first"},
    "/wan-delete": {"name": "hers"},
}
NOT_FRESH = 401
PASSWORD = {"identity": "alice", "password": OLD_PASSWORD}


@pytest.fixture
def site(make_site: Any) -> Site:
    features = {name: value for name, value in ALL_FEATURES.items() if not name.endswith("REGISTERABLE")}
    return confirm_addresses(
        make_site(**features, SECURITY_REFRESH_TOKEN=True, RECOVERY_PUBLIC_URL="http://localhost:5000")
    )


def let_pass(seconds: float, visitor: Visitor) -> dict[str, Any]:
    """Move the moment back in which the visitor's password was entered. Return the session."""
    with visitor.client.session_transaction(base_url=visitor.base) as session:
        session["fs_paa"] -= seconds
        return dict(session)


def stolen_session(site: Site) -> Visitor:
    """Return a browser with the session of alice, who entered her password a minute ago."""
    thief = site.visitor()
    assert thief.sign_in()
    let_pass(61, thief)
    return thief


def new_token(site: Site, identity: str = "alice") -> str:
    body = {"identity": identity, "password": OLD_PASSWORD}
    answer: Any = site.visitor().post_json("/login?include_auth_token", json=body).json
    return str(answer["response"]["user"]["authentication_token"])


def begin_factor(visitor: Visitor, path: str = "/tf-setup") -> str:
    """Begin to set up an app with codes. Return the token of the set-up."""
    response: Any = visitor.post_json(path, json=CHANGES[path]).json["response"]  # type: ignore[index]
    return str(response.get("tf_state_token") or response["state"])


@pytest.mark.requirement("R41")
def test_stolen_session_changes_neither_address_nor_factor(site: Site) -> None:
    for path, change in CHANGES.items():
        thief, before = stolen_session(site), site.rows(User)
        for _ in range(3):  # no try makes the next one fresh
            assert thief.post_json(path, json=change).status_code == NOT_FRESH, path
        assert "verify" in thief.submit("/", path, **change).location
        assert site.rows(User) == before
        assert site.work() == 0
        thief.post_json("/verify", json={"password": OLD_PASSWORD})  # as its owner can
        assert thief.post_json(path, json=change).status_code != NOT_FRESH, path
        site.work()


@pytest.mark.requirement("R41")
def test_token_counts_as_a_password_for_a_minute_and_is_not_renewed_by_a_stolen_browser(site: Site) -> None:
    browser, change = site.visitor(), CHANGES["/change-email"]

    def token(path: str, body: dict[str, str]) -> dict[str, str]:
        answer: Any = browser.post_json(path, json=body).json
        return {"Authentication-Token": answer["response"]["user"]["authentication_token"]}

    headers = token("/login?include_auth_token", PASSWORD)
    assert site.visitor().post_json("/change-email", json=change, headers=headers).status_code == 200
    let_pass(61, browser)
    headers, program = token("/refresh-token", {}), site.visitor()
    assert program.open("/change", headers={**headers, "Accept": "application/json"}).status_code == 200
    assert program.post_json("/change-email", json=change, headers=headers).status_code == NOT_FRESH


@pytest.mark.requirement("R41")
def test_fresh_token_of_another_account_does_not_make_a_stolen_session_fresh(site: Site) -> None:
    """The thief enters the password of an account of his own, and sends its token beside alice's cookie."""
    token = new_token(site, "bob")
    for path, change in {**CHANGES, "/second-address": {"email": "thief@example.com"}}.items():
        thief, before = stolen_session(site), site.rows(User)
        sent = [{"headers": {"Authentication-Token": token}}, {"query_string": {"auth_token": token}}]
        for options in (*sent, {"json": {**change, "auth_token": token}}):
            assert thief.post_json(path, **{"json": change, **options}).status_code == NOT_FRESH, path
        assert site.rows(User) == before
    assert site.work() == 0


def test_token_beside_a_remember_cookie_that_has_ended_is_refused(site: Site) -> None:
    headers, program = {"Authentication-Token": new_token(site)}, site.visitor()
    program.client.set_cookie(site.app.config["REMEMBER_COOKIE_NAME"], "ended", domain="localhost")
    for path in ("/change", "/change-email"):
        response = program.open(path, headers={**headers, "Accept": "application/json"})
        assert (response.status_code, response.json["response"]["error_code"]) == (401, "not_signed_in")


def test_factor_that_was_begun_for_another_account_is_refused(site: Site) -> None:
    """The thief begins it in an account of his own, whose password he can enter."""
    for path in ("/tf-setup", "/us-setup"):
        own = site.visitor()
        assert own.sign_in("bob")
        token = begin_factor(own, path)
        thief, before = stolen_session(site), site.rows(User)[0]
        answer = thief.post_json(f"{path}/{token}", json={"code": "123456", "passcode": "123456"})
        assert answer.status_code == 400
        assert "start over" in answer.text
        assert site.rows(User)[0] == before


def test_factor_in_a_session_of_another_account_is_not_set_up(make_site: Any) -> None:
    """The thief sets up his own factor, ends his session, and puts alice's remember cookie into its place."""
    site: Site = make_site(**SECOND_FACTOR)
    owner, thief = site.visitor(), site.visitor()
    owner.submit("/login", **PASSWORD, remember="y")
    assert thief.sign_in("bob")
    begin_factor(thief)
    secret = let_pass(0, thief)["tf_totp_secret"]
    site.change(User, User.username == "bob", fs_uniquifier="ended")
    name = site.app.config["REMEMBER_COOKIE_NAME"]
    cookie: Any = owner.client.get_cookie(name, domain="127.0.0.1")
    thief.client.set_cookie(name, cookie.value, domain="127.0.0.1")
    thief.post_json("/tf-validate", json={"code": one_time_code(site, secret)})
    assert thief.is_signed_in()  # it is alice's session now
    assert thief.post_json("/tf-setup", json={"setup": "authenticator"}).status_code == NOT_FRESH
    assert site.rows(User)[0]["tf_primary_method"] is None


def test_owner_has_time_to_finish_a_factor(make_site: Any) -> None:
    site: Site = make_site(**SECOND_FACTOR)
    alice = site.visitor()
    alice.sign_in()
    token = begin_factor(alice)
    secret = let_pass(300, alice)["tf_totp_secret"]  # while she looks for her phone
    answer = alice.post_json(f"/tf-setup/{token}", json={"code": one_time_code(site, secret)})
    assert answer.status_code == 200
    assert site.rows(User)[0]["tf_primary_method"] == "authenticator"
