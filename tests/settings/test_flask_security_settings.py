"""Flask-Security's own settings: each is honored as it documents them, or refused by name with the reason."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from support.site import NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, load_settings

import manage
from app.settings import advice
from app.settings.forced import FORCED
from app.settings.library_settings import REFUSED, flask_security_defaults, reason_refused
from app.settings.problems import SettingsError
from app.settings.schema import declared

# Neither declared in default.toml nor refused: Flask-Security honors them, or the tests below show it.
HONORED = """
ANONYMOUS_USER_DISABLED BACKWARDS_COMPAT_AUTH_TOKEN CHANGE_EMAIL_CONFIRM_URL CHANGE_EMAIL_ERROR_VIEW
CHANGE_EMAIL_SALT CHANGE_EMAIL_SUBJECT CHANGE_EMAIL_URL CHANGE_EMAIL_WITHIN CHANGE_SALT CHANGE_URL
CONFIRM_EMAIL_WITHIN CONFIRM_ERROR_VIEW CONFIRM_SALT CONFIRM_URL CSRF_COOKIE_NAME
CSRF_COOKIE_REFRESH_EACH_REQUEST CSRF_HEADER DEFAULT_HTTP_AUTH_REALM DEFAULT_REMEMBER_ME EMAIL_HTML
EMAIL_PLAINTEXT EMAIL_SUBJECT_CONFIRM EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE EMAIL_SUBJECT_PASSWORD_NOTICE
EMAIL_SUBJECT_PASSWORD_RESET EMAIL_SUBJECT_REGISTER EMAIL_SUBJECT_TWO_FACTOR EMAIL_SUBJECT_TWO_FACTOR_RESCUE
EMAIL_SUBJECT_USERNAME_RECOVERY EMAIL_VALIDATOR_ARGS FLASH_MESSAGES FRESHNESS_ALLOW_AUTH_TOKEN LOGIN_URL LOGOUT_URL
MULTI_FACTOR_RECOVERY_CODES_KEYS MULTI_FACTOR_RECOVERY_CODES_N MULTI_FACTOR_RECOVERY_CODES_URL
MULTI_FACTOR_RECOVERY_CODE_TTL MULTI_FACTOR_RECOVERY_URL PASSWORD_BREACHED_COUNT PASSWORD_HASH_OPTIONS
POST_CHANGE_EMAIL_VIEW POST_CHANGE_VIEW POST_CONFIRM_VIEW POST_LOGIN_VIEW POST_LOGOUT_VIEW POST_REGISTER_VIEW
POST_VERIFY_VIEW REDIRECT_ALLOWED_SUBDOMAINS REDIRECT_ALLOW_SUBDOMAINS REDIRECT_BASE_DOMAIN REDIRECT_BEHAVIOR
REDIRECT_HOST REFRESH_TOKEN REFRESH_TOKEN_CLEANUP_EXPIRED REFRESH_TOKEN_CLEANUP_REVOKED REFRESH_TOKEN_MAX_AGE
REFRESH_TOKEN_MAX_IDLE REFRESH_TOKEN_SALT REFRESH_TOKEN_URL REGISTER_URL REMEMBER_SALT RESET_ERROR_VIEW
RESET_URL RESET_VIEW SMS_SERVICE_CONFIG STATIC_FOLDER STATIC_FOLDER_URL TOKEN_AUTHENTICATION_HEADER
TOKEN_AUTHENTICATION_KEY TOKEN_MAX_AGE TWO_FACTOR_ALWAYS_VALIDATE TWO_FACTOR_AUTHENTICATOR_VALIDITY
TWO_FACTOR_ERROR_VIEW TWO_FACTOR_LOGIN_VALIDITY TWO_FACTOR_MAIL_VALIDITY TWO_FACTOR_POST_SETUP_VIEW
TWO_FACTOR_RESCUE_URL TWO_FACTOR_SELECT_URL TWO_FACTOR_SETUP_SALT TWO_FACTOR_SETUP_URL
TWO_FACTOR_SETUP_WITHIN TWO_FACTOR_SMS_VALIDITY TWO_FACTOR_TOKEN_VALIDATION_URL TWO_FACTOR_VALIDITY_SALT
UNAUTHORIZED_VIEW URL_PREFIX USERNAME_ENABLE USERNAME_MAX_LENGTH USERNAME_MIN_LENGTH USERNAME_RECOVERY_URL
US_EMAIL_SUBJECT US_POST_SETUP_VIEW US_SETUP_SALT US_SETUP_URL US_SETUP_WITHIN US_SIGNIN_SEND_CODE_URL
US_SIGNIN_URL US_TOKEN_VALIDITY US_VERIFY_SEND_CODE_URL US_VERIFY_URL VERIFY_URL WAN_ALLOW_AS_FIRST_FACTOR
WAN_ALLOW_AS_MULTI_FACTOR WAN_ALLOW_AS_VERIFY WAN_CHALLENGE_BYTES WAN_DELETE_URL WAN_NAME_ALLOWED_CHARS
WAN_NAME_MAX_LENGTH WAN_POST_REGISTER_VIEW WAN_REGISTER_TIMEOUT WAN_REGISTER_URL WAN_REGISTER_WITHIN
WAN_RP_NAME WAN_SALT WAN_SIGNIN_TIMEOUT WAN_SIGNIN_URL WAN_SIGNIN_WITHIN WAN_VERIFY_URL
"""
SPA = {
    "SECURITY_REDIRECT_BEHAVIOR": "spa",
    "SECURITY_REDIRECT_HOST": "app.example.com",
    "SECURITY_RESET_VIEW": "/reset-password",
    "SECURITY_RESET_ERROR_VIEW": "/reset-problem",
}


def test_every_setting_of_flask_security_is_honored_or_refused() -> None:
    """A new version's setting belongs into `HONORED`, with a test, or into forced.py or unsupported.toml."""
    honored = {f"SECURITY_{name}" for name in HONORED.split()}
    known = flask_security_defaults().keys()
    refused = {name for name in known if reason_refused(name)}
    assert known - honored - refused - {*declared()} == set()
    assert honored - known == set()
    assert honored & refused == set()


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_setting_is_named_with_its_reason(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**{name: "x"})
    [problem] = caught.value.problems
    assert (problem.name, problem.message) == (name, f"cannot be set: {REFUSED[name]}")


@pytest.mark.parametrize("name", ["SECURITY_RESET_SALT", "SECURITY_INPUT_NORMALIZE_FORM"])
def test_config_explain_tells_why_a_setting_cannot_be_set(name: str) -> None:
    result = CliRunner().invoke(manage.cli, ["config", "explain", name], env=SECRETS)
    assert result.exit_code == 0
    assert result.output.startswith(f"{name} cannot be set.")
    assert (FORCED[name][1] if name in FORCED else REFUSED[name]) in result.output


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("RESET_VIEW", "javascript:alert(1)", "whole https URL"),
        ("RESET_VIEW", "not a url", "without blanks"),
        ("RESET_VIEW", "//evil.example/x", "whole https URL"),
        ("RESET_VIEW", "http://app.example.com/reset", "must be https"),
        ("RESET_ERROR_VIEW", "data:text/html,x", "whole https URL"),
        ("POST_LOGIN_VIEW", "\\\\evil.example", "backslashes"),
        ("REDIRECT_HOST", "https://app.example.com", "give a host"),
        ("REDIRECT_HOST", "app.example.com/path", "give a host"),
        ("REDIRECT_HOST", "me@app.example.com", "give a host"),
    ],
)
def test_unsafe_view_is_refused(name: str, value: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**{**SPA, f"SECURITY_{name}": value})
    [problem] = caught.value.problems
    assert problem.name == f"SECURITY_{name}"
    assert reason in problem.message


@pytest.mark.parametrize("view", ["POST_LOGIN_VIEW", "POST_LOGOUT_VIEW"])
def test_view_on_another_host_needs_flask_securitys_permission(make_site: Any, view: str) -> None:
    elsewhere = {f"SECURITY_{view}": "https://app.example.com/home"}
    with pytest.raises(SettingsError, match=f"SECURITY_{view} .*SECURITY_REDIRECT_BASE_DOMAIN"):
        load_settings(**elsewhere)
    site = make_site(
        **elsewhere,
        SECURITY_REDIRECT_BASE_DOMAIN="example.com",
        SECURITY_REDIRECT_ALLOWED_SUBDOMAINS=["app"],
    )
    visitor = site.visitor()
    answers = [visitor.submit("/login", identity="alice", password=OLD_PASSWORD)]
    answers.append(visitor.submit("/change", url="/logout"))
    assert [answer.status_code for answer in answers] == [302, 302]
    assert "https://app.example.com/home" in [answer.location for answer in answers]


def test_built_in_pages_stay_here_when_links_land_on_a_redirect_host(make_site: Any) -> None:
    site: Site = make_site(**SPA)
    visitor = site.visitor()
    answer = visitor.submit("/login", identity="alice", password=OLD_PASSWORD)
    assert (answer.status_code, answer.location) == (302, "/")
    assert visitor.open("/login").location == "/"
    new = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    assert visitor.submit("/change", password=OLD_PASSWORD, **new).location == "/"
    assert visitor.submit("/change", url="/logout").location == "/"
    visitor.post_json("/reset", json={"identity": "alice"})
    site.work()
    landing = urlsplit(site.visitor().open(site.last_link()).location)
    assert landing.netloc == "app.example.com"


def test_hash_route_gets_the_token_in_its_own_query(make_site: Any) -> None:
    site: Site = make_site(**{**SPA, "SECURITY_RESET_VIEW": "/app?v=1#/reset"})
    site.ask()
    site.work()
    landing = site.visitor().open(site.last_link()).location
    assert re.fullmatch(r"https://app\.example\.com/app\?v=1#/reset\?token=[\w-]{43}", landing)


def test_reset_works_without_an_anonymous_user(make_site: Any) -> None:
    site: Site = make_site(SECURITY_ANONYMOUS_USER_DISABLED=True)
    site.ask()
    site.work()
    assert site.visitor().set_password(site.last_link()).location.endswith("/reset-done")
    site.ask()
    site.work()
    answer = site.visitor().post_json(site.last_link(), json={"password": NEW_PASSWORD + "2"})
    assert answer.status_code == 200
    statuses = [
        site.visitor().open(path).status_code for path in ("/", "/logout", "/me", "/login?client=browser")
    ]
    assert statuses == [303, 302, 401, 200]


def test_totp_secrets_without_a_second_factor_are_no_error(make_site: Any) -> None:
    secrets = {"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}
    assert make_site(SECURITY_TOTP_SECRETS=secrets).ask().status_code == 200


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({}, "Reset your Sparekey password"),
        ({"SECURITY_EMAIL_SUBJECT_PASSWORD_RESET": "A link for %(site)s"}, "A link for Sparekey"),
    ],
)
def test_subject_of_a_setting_replaces_that_of_the_template(
    make_site: Any, settings: dict[str, str], subject: str
) -> None:
    site: Site = make_site(RECOVERY_SITE_NAME="Sparekey", **settings)
    site.ask()
    site.work()
    assert site.mailbox.mails[-1]["Subject"] == subject


@pytest.mark.parametrize(("part", "left"), [("PLAINTEXT", "text/html"), ("HTML", "text/plain")])
def test_mail_lacks_a_part_that_is_switched_off(make_site: Any, part: str, left: str) -> None:
    site: Site = make_site(**{f"SECURITY_EMAIL_{part}": False})
    site.ask()
    site.work()
    parts = [part.get_content_type() for part in site.mailbox.mails[-1].walk() if not part.is_multipart()]
    assert parts == [left]


def test_mail_without_any_part_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"SECURITY_EMAIL_PLAINTEXT .*an email needs text or HTML"):
        load_settings(SECURITY_EMAIL_PLAINTEXT=False, SECURITY_EMAIL_HTML=False)


@pytest.mark.parametrize("on", [True, False])
def test_flashed_messages_can_be_switched_off(make_site: Any, on: bool) -> None:
    site: Site = make_site(SECURITY_FLASH_MESSAGES=on, SECURITY_CONFIRMABLE=True)
    visitor = site.visitor()
    visitor.submit("/confirm", identity="alice")
    assert ('role="status"' in visitor.open("/login").text) is on


@pytest.mark.parametrize("on", [True, False])
def test_remember_box_has_the_configured_default(make_site: Any, on: bool) -> None:
    page = make_site(SECURITY_DEFAULT_REMEMBER_ME=on).visitor().open("/login").text
    [box] = re.findall(r'<input[^>]*name="remember"[^>]*>', page)
    assert ("checked" in box) is on


def test_rarely_breached_password_is_accepted_below_the_configured_count(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.accounts.breaches.count_breaches", lambda _: 2)
    for count, status in ((2, 400), (3, 200)):
        site: Site = make_site(
            SECURITY_PASSWORD_CHECK_BREACHED="strict", SECURITY_PASSWORD_BREACHED_COUNT=count
        )
        site.ask()
        site.work()
        answer = site.visitor().post_json(site.last_link(), json={"password": NEW_PASSWORD})
        assert answer.status_code == status


def test_sign_up_leads_to_the_configured_view(make_site: Any) -> None:
    site: Site = make_site(
        SECURITY_REGISTERABLE=True, SECURITY_CONFIRMABLE=True, SECURITY_POST_REGISTER_VIEW="/welcome"
    )
    assert site.visitor().submit("/register", email="new@example.com").location == "/welcome"


@pytest.mark.parametrize(
    ("name", "value", "feature"),
    [
        ("SECURITY_WAN_REGISTER_TIMEOUT", 1000, "SECURITY_WEBAUTHN"),
        ("SECURITY_TWO_FACTOR_SMS_VALIDITY", 60, "SECURITY_TWO_FACTOR"),
        ("SECURITY_POST_CONFIRM_VIEW", "/confirmed", "SECURITY_CONFIRMABLE"),
        ("SECURITY_REDIRECT_HOST", "app.example.com", "SECURITY_REDIRECT_BEHAVIOR"),
    ],
)
def test_setting_of_a_feature_that_is_off_is_reported(name: str, value: Any, feature: str) -> None:
    findings = advice.check_settings(load_settings(**{name: value}))
    [found] = [finding for finding in findings if finding.id == "setting-without-feature"]
    assert found.setting == name
    assert found.what == f"{name} has no effect."
    assert feature in found.why


@pytest.mark.parametrize(("length", "status"), [(4, 400), (1, 200)])
def test_usernames_have_the_configured_length(make_site: Any, length: int, status: int) -> None:
    site: Site = make_site(
        SECURITY_REGISTERABLE=True,
        SECURITY_CONFIRMABLE=True,
        SECURITY_USERNAME_ENABLE=True,
        SECURITY_USERNAME_MIN_LENGTH=length,
    )
    answer = site.visitor().post_json("/register", json={"email": "new@example.com", "username": "abc"})
    assert answer.status_code == status
