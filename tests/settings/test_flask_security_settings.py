"""Flask-Security's own settings: each is honored as it documents them, or refused by name with the reason."""

import re
from typing import Any

import pytest
from support.features import REGISTRATION, confirm_addresses
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site, load_settings

from app.settings import advice
from app.settings.forced import FORCED
from app.settings.library_settings import REFUSED, flask_security_defaults, reason_refused
from app.settings.problems import SettingsError
from app.settings.schema import declared

# Neither declared in default.toml nor refused: Flask-Security honors them, or the tests below show it.
HONORED = """
ANONYMOUS_USER_DISABLED BACKWARDS_COMPAT_AUTH_TOKEN CHANGE_EMAIL_CONFIRM_URL CHANGE_EMAIL_ERROR_VIEW CHANGE_EMAIL_SALT
CHANGE_EMAIL_SUBJECT CHANGE_EMAIL_URL CHANGE_EMAIL_WITHIN CHANGE_SALT CHANGE_URL CONFIRM_EMAIL_WITHIN CONFIRM_ERROR_VIEW CONFIRM_SALT
CONFIRM_URL CSRF_COOKIE_NAME CSRF_COOKIE_REFRESH_EACH_REQUEST CSRF_HEADER DEFAULT_HTTP_AUTH_REALM DEFAULT_REMEMBER_ME EMAIL_HTML
EMAIL_PLAINTEXT EMAIL_SUBJECT_CONFIRM EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE EMAIL_SUBJECT_PASSWORD_NOTICE EMAIL_SUBJECT_PASSWORD_RESET
EMAIL_SUBJECT_REGISTER EMAIL_SUBJECT_TWO_FACTOR EMAIL_SUBJECT_TWO_FACTOR_RESCUE EMAIL_SUBJECT_USERNAME_RECOVERY EMAIL_VALIDATOR_ARGS
FLASH_MESSAGES FRESHNESS_ALLOW_AUTH_TOKEN LOGIN_URL LOGOUT_URL MULTI_FACTOR_RECOVERY_CODES_KEYS MULTI_FACTOR_RECOVERY_CODES_N
MULTI_FACTOR_RECOVERY_CODES_URL MULTI_FACTOR_RECOVERY_CODE_TTL MULTI_FACTOR_RECOVERY_URL PASSWORD_BREACHED_COUNT PASSWORD_HASH_OPTIONS
POST_CHANGE_EMAIL_VIEW POST_CHANGE_VIEW POST_CONFIRM_VIEW POST_LOGIN_VIEW POST_LOGOUT_VIEW POST_REGISTER_VIEW POST_VERIFY_VIEW
REDIRECT_ALLOWED_SUBDOMAINS REDIRECT_ALLOW_SUBDOMAINS REDIRECT_BASE_DOMAIN REDIRECT_BEHAVIOR REDIRECT_HOST REFRESH_TOKEN
REFRESH_TOKEN_CLEANUP_EXPIRED REFRESH_TOKEN_CLEANUP_REVOKED REFRESH_TOKEN_MAX_AGE REFRESH_TOKEN_MAX_IDLE REFRESH_TOKEN_SALT
REFRESH_TOKEN_URL REGISTER_URL REMEMBER_SALT RESET_ERROR_VIEW RESET_URL RESET_VIEW SMS_SERVICE_CONFIG STATIC_FOLDER STATIC_FOLDER_URL
TOKEN_AUTHENTICATION_HEADER TOKEN_AUTHENTICATION_KEY TOKEN_MAX_AGE TWO_FACTOR_ALWAYS_VALIDATE TWO_FACTOR_AUTHENTICATOR_VALIDITY
TWO_FACTOR_ERROR_VIEW TWO_FACTOR_LOGIN_VALIDITY TWO_FACTOR_MAIL_VALIDITY TWO_FACTOR_POST_SETUP_VIEW TWO_FACTOR_RESCUE_URL
TWO_FACTOR_SELECT_URL TWO_FACTOR_SETUP_SALT TWO_FACTOR_SETUP_URL TWO_FACTOR_SETUP_WITHIN TWO_FACTOR_SMS_VALIDITY
TWO_FACTOR_TOKEN_VALIDATION_URL TWO_FACTOR_VALIDITY_SALT UNAUTHORIZED_VIEW URL_PREFIX USERNAME_ENABLE USERNAME_MAX_LENGTH
USERNAME_MIN_LENGTH USERNAME_RECOVERY_URL US_EMAIL_SUBJECT US_POST_SETUP_VIEW US_SETUP_SALT US_SETUP_URL US_SETUP_WITHIN
US_SIGNIN_SEND_CODE_URL US_SIGNIN_URL US_TOKEN_VALIDITY US_VERIFY_SEND_CODE_URL US_VERIFY_URL VERIFY_URL WAN_ALLOW_AS_FIRST_FACTOR
WAN_ALLOW_AS_MULTI_FACTOR WAN_ALLOW_AS_VERIFY WAN_CHALLENGE_BYTES WAN_DELETE_URL WAN_NAME_ALLOWED_CHARS WAN_NAME_MAX_LENGTH
WAN_POST_REGISTER_VIEW WAN_REGISTER_TIMEOUT WAN_REGISTER_URL WAN_REGISTER_WITHIN WAN_RP_NAME WAN_SALT WAN_SIGNIN_TIMEOUT WAN_SIGNIN_URL
WAN_SIGNIN_WITHIN WAN_VERIFY_URL
"""
SPA = {
    "SECURITY_REDIRECT_BEHAVIOR": "spa",
    "SECURITY_REDIRECT_HOST": "app.example.com",
    "SECURITY_RESET_VIEW": "/app?v=1#/reset",
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


def test_refused_settings_are_named_with_their_reasons() -> None:
    reasons = REFUSED | {name: reason for name, (_, reason) in FORCED.items()}
    with pytest.raises(SettingsError) as caught:
        load_settings(**dict.fromkeys(reasons, "x"))
    messages = {problem.name: problem.message for problem in caught.value.problems}
    assert messages == {name: f"cannot be set: {reason}" for name, reason in reasons.items()}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("RESET_VIEW", "javascript:alert(1)", "whole https URL"),
        ("RESET_VIEW", "not a url", "without blanks"),
        ("RESET_VIEW", "//evil.example/x", "whole https URL"),
        ("RESET_VIEW", "http://app.example.com/reset", "must be https"),
        ("RESET_ERROR_VIEW", "data:text/html,x", "whole https URL"),
        ("POST_LOGIN_VIEW", "\\\\evil.example", "backslashes"),
        ("POST_LOGIN_VIEW", "https://app.example.com/in", "allow it in SECURITY_REDIRECT_BASE_DOMAIN"),
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


def test_views_are_on_another_host_with_flask_securitys_permission(make_site: Any) -> None:
    visitor = make_site(
        SECURITY_POST_LOGIN_VIEW="https://app.example.com/in",
        SECURITY_POST_LOGOUT_VIEW="https://app.example.com/out",
        SECURITY_REDIRECT_BASE_DOMAIN="example.com",
        SECURITY_REDIRECT_ALLOWED_SUBDOMAINS=["app"],
    ).visitor()
    answer = visitor.submit("/login", identity="alice", password=OLD_PASSWORD)
    assert answer.location == "https://app.example.com/in"
    assert visitor.submit("/change", url="/logout").location == "https://app.example.com/out"


def test_built_in_pages_stay_here_when_links_land_on_a_redirect_host(make_site: Any) -> None:
    site: Site = make_site(**SPA)
    visitor = site.visitor()
    answer = visitor.submit("/login", identity="alice", password=OLD_PASSWORD)
    assert (answer.status_code, answer.location) == (302, "/")
    assert visitor.open("/login").location == "/"
    new = {"new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    assert visitor.submit("/change", password=OLD_PASSWORD, **new).location == "/"
    site.work()  # mails the notice
    assert visitor.submit("/change", url="/logout").location == "/"
    landing = site.visitor().open(site.new_link()).location
    assert re.fullmatch(r"https://app\.example\.com/app\?v=1#/reset\?token=[\w-]{43}", landing)


def test_reset_works_without_an_anonymous_user(make_site: Any) -> None:
    site: Site = make_site(SECURITY_ANONYMOUS_USER_DISABLED=True)
    assert site.visitor().set_password(site.new_link()).location.endswith("/reset-done")
    site.work()
    answer = site.visitor().post_json(site.new_link(), json={"password": NEW_PASSWORD + "2"})
    assert answer.status_code == 200
    paths = {"/": 303, "/logout": 302, "/me": 401, "/login?client=browser": 200}
    assert {path: site.visitor().open(path).status_code for path in paths} == paths


CHOICES = {
    "SECURITY_EMAIL_SUBJECT_PASSWORD_RESET": "A link for %(site)s",
    "SECURITY_EMAIL_HTML": False,
    "SECURITY_FLASH_MESSAGES": False,
    "SECURITY_DEFAULT_REMEMBER_ME": True,
    "SECURITY_TOTP_SECRETS": {
        "1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"
    },  # without a second factor, it has no effect
}


@pytest.mark.parametrize(
    ("choices", "subject", "parts", "is_flashed", "is_checked"),
    [
        ({}, "Reset your Sparekey password", ["text/plain", "text/html"], True, False),
        (CHOICES, "A link for Sparekey", ["text/plain"], False, True),
        ({"SECURITY_EMAIL_PLAINTEXT": False}, "Reset your Sparekey password", ["text/html"], True, False),
    ],
)  # fmt: skip
def test_settings_of_mails_and_pages_take_effect(
    make_site: Any, choices: Any, subject: str, parts: list[str], is_flashed: bool, is_checked: bool
) -> None:
    site: Site = make_site(SECURITY_CONFIRMABLE=True, **choices)
    visitor = site.visitor()
    visitor.submit("/confirm", identity="alice")
    page = visitor.open("/login").text
    [box] = re.findall(r'<input[^>]*name="remember"[^>]*>', page)
    assert ('role="status"' in page, "checked" in box) == (is_flashed, is_checked)
    confirm_addresses(site)
    site.ask()
    site.work()
    mail = site.mailbox.mails[-1]
    assert mail["Subject"] == subject
    assert [part.get_content_type() for part in mail.walk() if not part.is_multipart()] == parts


def test_rarely_breached_password_is_accepted_below_the_configured_count(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.accounts.breaches.count_breaches", lambda _: 2)
    for count, status in ((2, 400), (3, 200)):
        counted = {"SECURITY_PASSWORD_CHECK_BREACHED": "strict", "SECURITY_PASSWORD_BREACHED_COUNT": count}
        site: Site = make_site(**counted)
        answer = site.visitor().post_json(site.new_link(), json={"password": NEW_PASSWORD})
        assert answer.status_code == status


def test_sign_up_follows_its_settings(make_site: Any) -> None:
    options = {"SECURITY_POST_REGISTER_VIEW": "/welcome", "SECURITY_USERNAME_MIN_LENGTH": 4}
    site: Site = make_site(**REGISTRATION, **options)
    assert site.visitor().submit("/register", email="new@example.com").location == "/welcome"
    for username, status in (("abc", 400), ("abcd", 200)):
        body = {"email": "new@example.com", "username": username}
        assert site.visitor().post_json("/register", json=body).status_code == status


def test_settings_of_features_that_are_off_are_reported() -> None:
    values: dict[str, tuple[Any, str]] = {
        "SECURITY_WAN_REGISTER_TIMEOUT": (1000, "SECURITY_WEBAUTHN"),
        "SECURITY_TWO_FACTOR_SMS_VALIDITY": (60, "SECURITY_TWO_FACTOR"),
        "SECURITY_POST_CONFIRM_VIEW": ("/confirmed", "SECURITY_CONFIRMABLE"),
        "SECURITY_REDIRECT_HOST": ("app.example.com", "SECURITY_REDIRECT_BEHAVIOR"),
    }
    findings = advice.check_settings(load_settings(**{name: value for name, (value, _) in values.items()}))
    found = {finding.setting: finding for finding in findings if finding.id == "setting-without-feature"}
    assert found.keys() == values.keys()
    for name, (_, feature) in values.items():
        assert found[name].what == f"{name} has no effect."
        assert feature in found[name].why
