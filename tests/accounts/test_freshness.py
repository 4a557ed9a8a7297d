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


@pytest.fixture
def site(make_site: Any) -> Site:
    features = {name: value for name, value in ALL_FEATURES.items() if not name.endswith("REGISTERABLE")}
    return confirm_addresses(make_site(**features, RECOVERY_PUBLIC_URL="http://localhost:5000"))


def stolen_session(site: Site, seconds: float = 61) -> Visitor:
    """Return a browser with the session of alice, who entered her password so long ago."""
    thief = site.visitor()
    assert thief.sign_in()
    with thief.client.session_transaction(base_url=thief.base) as session:
        session["fs_paa"] -= seconds
    return thief


def begin_factor(visitor: Visitor, path: str = "/tf-setup", field: str = "setup") -> tuple[str, str]:
    """Begin to set up an app with codes. Return the token of the set-up, and the secret."""
    response: Any = visitor.post_json(path, json={field: "authenticator"}).json["response"]  # type: ignore[index]
    return response.get("tf_state_token") or response["state"], response[
        "tf_authr_key" if "tf" in path else "authr_key"
    ]


@pytest.mark.requirement("R41")
@pytest.mark.parametrize("path", CHANGES)
def test_stolen_session_changes_neither_address_nor_factor(site: Site, path: str) -> None:
    thief, before = stolen_session(site), site.rows(User)
    for _ in range(3):  # no try makes the next one fresh
        assert thief.post_json(path, json=CHANGES[path]).status_code == NOT_FRESH
    assert "verify" in thief.submit("/", path, **CHANGES[path]).location
    assert site.rows(User) == before
    assert site.work() == 0
    thief.post_json("/verify", json={"password": OLD_PASSWORD})  # as its owner can
    assert thief.post_json(path, json=CHANGES[path]).status_code != NOT_FRESH


@pytest.mark.requirement("R41")
def test_token_of_a_stolen_browser_does_not_count_as_a_password(make_site: Any) -> None:
    site: Site = make_site(SECURITY_CHANGE_EMAIL=True, SECURITY_REFRESH_TOKEN=True)
    browser, program = site.visitor(), site.visitor()
    browser.post_json("/login?include_auth_token", json={"identity": "alice", "password": OLD_PASSWORD})
    with browser.client.session_transaction(base_url=browser.base) as session:
        session["fs_paa"] -= 61
    answer: Any = browser.post_json("/refresh-token", json={}).json
    headers = {"Authentication-Token": answer["response"]["user"]["authentication_token"]}
    assert program.open("/change", headers={**headers, "Accept": "application/json"}).status_code == 200
    answer = program.post_json("/change-email", json=CHANGES["/change-email"], headers=headers)
    assert answer.status_code == NOT_FRESH


def test_token_of_a_sign_in_counts_as_a_password_for_a_minute(site: Site) -> None:
    body = {"identity": "alice", "password": OLD_PASSWORD}
    answer: Any = site.visitor().post_json("/login?include_auth_token", json=body).json
    headers = {"Authentication-Token": answer["response"]["user"]["authentication_token"]}
    answer = site.visitor().post_json("/change-email", json={"email": "a@new.example.com"}, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(("path", "field"), [("/tf-setup", "setup"), ("/us-setup", "chosen_method")])
def test_factor_that_was_begun_for_another_account_is_refused(site: Site, path: str, field: str) -> None:
    """The thief begins it in an account of his own, whose password he can enter."""
    own = site.visitor()
    assert own.sign_in("bob")
    token, _ = begin_factor(own, path, field)
    thief, before = stolen_session(site), site.rows(User)[0]
    answer = thief.post_json(f"{path}/{token}", json={"code": "123456", "passcode": "123456"})
    assert answer.status_code == 400
    assert "start over" in answer.text
    assert site.rows(User)[0] == before


def test_factor_in_a_session_of_another_account_is_not_set_up(make_site: Any) -> None:
    """The thief sets up his own factor, ends his session, and puts alice's remember cookie into its place."""
    site: Site = make_site(**SECOND_FACTOR)
    owner, thief = site.visitor(), site.visitor()
    owner.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    assert thief.sign_in("bob")
    begin_factor(thief)
    with thief.client.session_transaction(base_url=thief.base) as session:
        secret = session["tf_totp_secret"]
    site.change(User, User.username == "bob", fs_uniquifier="ended")
    name = site.app.config["REMEMBER_COOKIE_NAME"]
    cookie = owner.client.get_cookie(name, domain="127.0.0.1")
    assert cookie
    thief.client.set_cookie(name, cookie.value, domain="127.0.0.1")
    thief.post_json("/tf-validate", json={"code": one_time_code(site, secret)})
    assert thief.open("/change").status_code == 200  # it is alice's session now
    assert thief.post_json("/tf-setup", json={"setup": "authenticator"}).status_code == NOT_FRESH
    assert site.rows(User)[0]["tf_primary_method"] is None


def test_owner_has_time_to_finish_a_factor(make_site: Any) -> None:
    site: Site = make_site(**SECOND_FACTOR)
    alice = site.visitor()
    alice.sign_in()
    token, _ = begin_factor(alice)
    with alice.client.session_transaction(base_url=alice.base) as session:
        session["fs_paa"] -= 300  # while she looks for her phone
        secret = session["tf_totp_secret"]
    answer = alice.post_json(f"/tf-setup/{token}", json={"code": one_time_code(site, secret)})
    assert answer.status_code == 200
    assert site.rows(User)[0]["tf_primary_method"] == "authenticator"
