"""The optional features, each alone and all together: the reset works, and no answer tells who has an account."""

import re
from typing import Any

import pytest
from sqlalchemy import event
from support.features import ALL_FEATURES, SETTINGS_BY_FEATURE, confirm_addresses, set_up_code_sign_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts.models import User
from app.db.engine import db

LOCALHOST = {"RECOVERY_PUBLIC_URL": "http://localhost:5000"}  # passkeys need a host name
SETTINGS = {"none": {"SECURITY_CHANGEABLE": False}, **SETTINGS_BY_FEATURE, "all": ALL_FEATURES}
# Where the home page leads; by default to /change alone.
HOME_PATHS = {
    "none": "",
    "change of address": "/change /change-email",
    "second address": "/change /second-address",
    "second factor": "/change /tf-setup",
    "recovery codes": "/change /mf-recovery-codes /tf-setup",
    "code sign-in": "/change /us-setup",
    "passkeys": "/change /wan-register",
    "all": "/change /change-email /mf-recovery-codes /second-address /tf-setup /us-setup /wan-register",
}


def build(make_site: Any, **settings: Any) -> Site:
    return confirm_addresses(make_site(**settings, **LOCALHOST))


@pytest.mark.parametrize(
    ("database", "feature"),
    [*(("sqlite", feature) for feature in SETTINGS), ("postgresql", "all")],
    indirect=["database"],
)
def test_reset_and_home_page_with_features(make_site: Any, feature: str) -> None:
    site = build(make_site, **SETTINGS[feature])
    visitor = site.visitor()
    assert visitor.submit("/reset", "/reset", identity="alice").location == "/check-mail"
    site.work()
    assert visitor.set_password(site.last_link()).location == "/reset-done"
    visitor.submit("/login", "/login", identity="(415) 555-0123", password=NEW_PASSWORD)
    home = visitor.open("/").text
    assert 'action="/logout"' in home
    paths = re.findall('href="([^"]+)"', "".join(re.findall(r'class="rows">(.*?)</ul>', home, re.DOTALL)))
    assert " ".join(sorted(paths)) == HOME_PATHS.get(feature, "/change")
    assert [visitor.open(path).status_code for path in paths] == [200] * len(paths)


FORMS = {
    "/reset": {"identity": "{identity}"},
    "/login": {"identity": "{identity}", "password": "not the right one"},
    "/confirm": {"identity": "{identity}"},
    "/recover-username": {"identity": "{identity}"},
    "/register": {"email": "{identity}"},
    "/us-signin": {"identity": "{identity}", "passcode": "123456"},
    "/us-signin/send-code": {"identity": "{identity}", "chosen_method": "email"},
    "/wan-signin": {"identity": "{identity}"},
}


@pytest.mark.requirement("R1", "R2")
def test_answers_and_statements_are_the_same_for_every_identity(make_site: Any) -> None:
    site = build(make_site, **ALL_FEATURES)
    set_up_code_sign_in(site)
    statements: list[str] = []
    with site.app.app_context():
        event.listen(db.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))

    def observe(path: str, identity: str) -> Any:
        body = {name: value.format(identity=identity) for name, value in FORMS[path].items()}
        statements.clear()
        json = site.visitor().post_json(path, json=body)
        form = site.visitor().submit("/login", path, **body)
        # Without challenges, tokens and nonces.
        texts = [re.sub(r"[\w.\-]{20,}", "-", answer.text.replace(identity, "-")) for answer in (form, json)]
        return form.status_code, form.location, json.status_code, texts, list(statements)

    for path in FORMS:
        known = observe(path, "alice@example.com")
        for name in ("nobody", "inactive", "sso", "alice"):
            assert observe(path, f"{name}@example.com") == known, path
        if path not in ("/login", "/us-signin"):
            assert not any("FROM user" in text or '"user"' in text for text in known[-1]), path


@pytest.mark.requirement("R56")
def test_requests_count_once_with_all_features(make_site: Any) -> None:
    site = build(make_site, **ALL_FEATURES, RECOVERY_LIMIT_SOURCE="3 per hour", RATELIMIT_ENABLED=True)
    for number, path in enumerate(("/reset", "/confirm", "/register")):
        body, source = {"email": "nobody@example.com"}, {"REMOTE_ADDR": f"192.0.2.{number}"}
        answers = [site.visitor().post_json(path, json=body, environ_overrides=source) for _ in range(4)]
        statuses = [answer.status_code for answer in answers]
        assert statuses == [200, 200, 200, 429], path


def test_tracking_records_time_and_source_of_a_sign_in(make_site: Any) -> None:
    site: Site = make_site(**SETTINGS_BY_FEATURE["tracking"])
    assert site.password_works(OLD_PASSWORD)
    alice = site.rows(User)[0]
    assert (alice["login_count"], alice["current_login_ip"]) == (1, "127.0.0.1")
