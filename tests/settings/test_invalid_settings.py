"""Settings that would weaken a protection, fail later or leak a secret stop the start."""

import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support.site import PUBLIC_URL, ROOT, SECRETS, Site, load_settings

import manage
from app import settings
from app.settings.problems import SettingsError

UNSAFE = {
    # They would switch a protection off.
    "WTF_CSRF_ENABLED": ["false"],
    "SECURITY_CSRF_PROTECT_MECHANISMS": ["[]"],
    "SECURITY_PASSWORD_CHECK_BREACHED": ["stirct"],
    "SECURITY_API_ENABLED_METHODS": ['["basic"]'],
    "SESSION_COOKIE_SECURE": ["false"],
    "SECURITY_PASSWORD_SCHEMES": ['["argon2", "plaintext"]', '["argon2", "des_crypt"]'],
    # They would fail later.
    "RECOVERY_PUBLIC_URL": [
        *("https://id.example.com:abc", "https://id.exa mple.com"),
        *("https://id.example.com/a b", "https://h.example//evil.example", "https://h.example/über"),
    ],
    "RECOVERY_MAIL_COOLDOWN": ["2500000 days", "99999999999 days"],
    "RECOVERY_MAIL_CA": ["/etc", "/etc/passwd"],
    "RECOVERY_WORKER_POLL": ["0 seconds"],
    "RECOVERY_SITE_NAME": [" ", "two\u2028lines", "\udcff"],
    "MAIL_SERVER": ["x" * 64 + ".example"],
    "RECOVERY_MAIL_EHLO": [
        "id.example.com\r\nRSET",
        "id.example.com\n",
        "my host",
        "bücher.example",
        "[::1]",
    ],
    "MAIL_DEFAULT_SENDER": ["a@b.example, c@d.example", "", "jürgen@example.com"],
    "RECOVERY_MAIL_REPLY_TO": ["a@b.example, c@d.example", "help", "a@b.example\nBcc: c@d.example"],
    "PERMANENT_SESSION_LIFETIME": ["3600"],
    "TESTING": ["perhaps"],
    "SECURITY_PASSWORD_LENGTH_MIN": ["200"],
    "SECURITY_LOGIN_URL": ["signin"],
    "SECURITY_SUBDOMAIN": ["x"],
    "SQLALCHEMY_ENGINE_OPTIONS": ["junk"],
    "SQLALCHEMY_DATABASE_URI": ["postgresql+psycopg2://h/n"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in UNSAFE.items() for value in values]
)
@pytest.mark.requirement("R20", "R33", "R65")
def test_unsafe_setting_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({**SECRETS, "FLASK_RECOVERY_PUBLIC_URL": PUBLIC_URL, f"FLASK_{name}": value})
    assert name in {problem.name for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("value", "normalized"),
    [
        ("https://id.example.com:443", "https://id.example.com"),
        ("https://ID.Example.com/", "https://id.example.com"),
        ("http://localhost:80", "http://localhost"),
        ("http://[::1]:5000/", "http://[::1]:5000"),
        ("http://127.0.0.2:5000", "http://127.0.0.2:5000"),
        ("http://sparekey.localhost", "http://sparekey.localhost"),
    ],
)
def test_public_url_is_https_or_local_and_normalized_as_browsers_do(value: str, normalized: str) -> None:
    assert normalized == load_settings(RECOVERY_PUBLIC_URL=value).RECOVERY_PUBLIC_URL


def test_own_origin_is_recognized_as_browsers_spell_it(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://bücher.example:443")
    origin = "https://xn--bcher-kva.example"
    assert site.app.config["RECOVERY_PUBLIC_URL"] == origin
    answer = site.visitor().post_json("/reset", json={"identity": "alice"}, headers={"Origin": origin})
    assert answer.status_code == 200


# --- secrets ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R63")
def test_placeholder_secrets_of_the_docs_are_refused() -> None:
    pages = [ROOT / "README.md", ROOT / "Makefile", *ROOT.glob("docs/**/*.*"), *ROOT.glob("config/*.toml")]
    pages += [
        *ROOT.glob("app/**/*.py"),
        *ROOT.glob("doctor/**/*.py"),
        *filter(Path.is_file, ROOT.glob("examples/*/*.*")),
    ]
    assignment = re.compile(r"(SECRET_KEY|PASSWORD_SALT)\s*=\s*[\"']?([^\s\"'#]*)")
    placeholders = [
        match
        for page in pages
        if page.suffix not in (".png", ".pyc")
        for match in assignment.findall(page.read_text())
    ]
    assert len(placeholders) > 1
    for name, value in placeholders:
        with pytest.raises(SettingsError, match=name):
            settings.load({**SECRETS, f"FLASK_{'SECURITY_' * (name[0] == 'P')}{name}": value})


@pytest.mark.requirement("R61", "R63")
def test_secret_in_place_of_its_file_is_not_repeated() -> None:
    with pytest.raises(SettingsError) as caught:
        settings.load({"FLASK_SECRET_KEY_FILE": "the-secret-itself-0123456789"})
    assert "the-secret-itself" not in str(caught.value)


LEAKS = """
mail_password = "xyzzy"
MAIL_PASSWRD = "xyzzy"
RECOVERY_SITE_NAME = 2020-01-01
RECOVERY_PUBLIC_URL = "https://me:xyzzy@id.example.com"
SQLALCHEMY_DATABASE_URI = "postgresql:///db?password=xyzzy"
[SQLALCHEMY_ENGINE_OPTIONS.connect_args]
password = "xyzzy"
[mail]
password = "xyzzy"
"""


@pytest.mark.requirement("R61")
def test_config_show_hides_misplaced_secrets(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(LEAKS)
    environ = {
        **SECRETS,
        "RECOVERY_CONFIG": str(file),
        "FLASK_DATABASE_URL": "postgresql://u:xyzzy@h/n",
    }
    for form in ("text", "json"):
        ended = CliRunner().invoke(manage.cli, ["config", "show", "--format", form], env=environ)
        assert ended.exit_code == 1
        assert isinstance(ended.exception, SystemExit)
        assert "MAIL_PASSWRD" in ended.output
        assert "xyzzy" not in ended.output
