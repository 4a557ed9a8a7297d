"""Code of one's own: the package of docs/extend.md, which lies outside of the tree, and its refusals."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, SECRETS, Site, load_settings

from app import create_app
from app.settings.problems import SettingsError

GUIDE = (ROOT / "docs" / "extend.md").read_text()
CODE = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]  # type: ignore[index]
SETTINGS = tomllib.loads(re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)[1])  # type: ignore[index]


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The documented package, where Python finds it."""
    package = tmp_path / "acme"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sparekey.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "acme"]:
        del sys.modules[name]


@pytest.fixture
def site(acme: Path, make_site: Any, tmp_path: Path) -> Site:
    own = tmp_path / "templates" / "security"
    (own / "email").mkdir(parents=True)
    shipped = '{% extends "shipped/security/reset_password.html" %}'
    (own / "reset_password.html").write_text(
        f"{shipped}{{% block scripts %}}{{{{ hotline }}}}{{% endblock %}}"
    )
    mail = (ROOT / "templates/security/email/reset_instructions.txt").read_text()
    (own / "email" / "reset_instructions.txt").write_text(
        mail.replace("{% block content %}", "{% block content %}{{ hotline }} ")
    )
    settings = {**SETTINGS, "RECOVERY_TEMPLATE_DIR": str(own.parent)}
    built: Site = make_site(**settings, SECURITY_CHANGE_EMAIL=True)
    return built


def test_page_and_mail_get_the_variables_of_context_processors(site: Site) -> None:
    site.ask()
    site.work()
    assert "555-0100" in site.mailbox.mails[-1].get_body(("plain",)).get_content()
    assert "555-0100" in site.visitor().open(site.last_link(), follow_redirects=True).text


def test_added_field_is_shown_and_enforced(site: Site) -> None:
    site.ask()
    site.work()
    visitor, link = site.visitor(), site.last_link()
    assert "I have read the rules" in visitor.open(link, follow_redirects=True).text
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    assert "Please read the rules." in visitor.submit(link, **fields).text
    refused = site.visitor().post_json(link, json={"password": NEW_PASSWORD})
    assert refused.status_code == 400
    assert "rules" in refused.json["response"]["field_errors"]
    assert visitor.submit(link, **fields, rules="y").location == "/reset-done"


def test_replaced_password_rule_refuses(site: Site) -> None:
    site.ask()
    site.work()
    body = {"password": f"{NEW_PASSWORD} at Acme", "rules": True}
    refused = site.visitor().post_json(site.last_link(), json=body)
    assert refused.json["response"]["field_errors"]["password"] == [
        "Choose a password without the name of this company."
    ]


def test_receiver_hears_of_a_reset(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.ask()
    site.work()
    site.visitor().post_json(site.last_link(), json={"password": NEW_PASSWORD, "rules": True})
    assert "acme: account 1 has a new password" in caplog.text


def test_replaced_utilities_map_identities(site: Site) -> None:
    for typed in ("@alice", "+1 415/555/0123"):
        site.ask(typed)
        site.work()
        assert site.mailbox.mails.pop()["To"] == "alice@example.com"


def test_added_identity_kind_signs_in_and_recovers(site: Site) -> None:
    identities = ("email:carol@example.com", "employee_number:e-12345")
    run(site, "users", "create", *identities, "--password", OLD_PASSWORD, "--active")
    assert site.password_works(OLD_PASSWORD, "E12345")
    site.ask("E-12345")
    site.work()
    assert site.mailbox.mails.pop()["To"] == "carol@example.com"
    assert "Email, employee number, username, or phone number" in site.visitor().open("/reset").text


def test_replaced_mail_utility_queues(site: Site) -> None:
    visitor = site.visitor()
    assert visitor.sign_in(password=OLD_PASSWORD)
    visitor.submit("/change-email", email="alice@example.net")
    site.work()
    texts = [mail.get_body(("plain",)).get_content() for mail in site.mailbox.mails]
    assert [text for text in texts if "Acme, 1 Main Street" in text] != [], texts


def test_added_page_and_command(site: Site) -> None:
    assert site.visitor().open("/acme").text == "Hello from Acme"
    assert site.app.test_cli_runner().invoke(args=["motto"]).output.endswith("by Acme\n")


def test_command_and_worker_load_the_extension_alike(acme: Path, tmp_path: Path, database: Any) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(
        f'RECOVERY_PUBLIC_URL = "http://127.0.0.1:5000"\nRECOVERY_INBOX = true\n'
        f'SQLALCHEMY_DATABASE_URI = "{database()}"\n' + re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)[1]  # type: ignore[index]
    )
    environ = {**os.environ, **SECRETS, "RECOVERY_CONFIG": str(config), "PYTHONPATH": str(acme)}
    for words, printed in ((["motto"], "by Acme"), (["worker", "--once"], "0 processed")):
        command = [sys.executable, str(ROOT / "manage.py"), *words]
        done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert printed in done.stdout


BAD = """
def fails(app):
    raise RuntimeError("no licence")

class Alone:
    pass
"""


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"RECOVERY_EXTENSIONS": ["nowhere.at_all:init_app"]}, "nowhere.at_all:init_app cannot be imported"),
        ({"RECOVERY_EXTENSIONS": ["bad:nothing"]}, "bad:nothing cannot be imported: AttributeError"),
        ({"RECOVERY_EXTENSIONS": ["bad:fails"]}, "bad:fails failed: RuntimeError: no licence"),
        ({"RECOVERY_EXTENSIONS": ["bad:__name__"]}, "bad:__name__ cannot be used"),
        ({"RECOVERY_EXTENSIONS": ["bad"]}, "give module:name"),
        (
            {"RECOVERY_CLASSES": {"password_util_cls": "bad:Alone"}},
            "does not derive from app.accounts.passwords.RecoveryPasswordUtil",
        ),
        ({"RECOVERY_CLASSES": {"mail_util_cls": "flask_security:MailUtil"}}, "QueuedMailUtil"),
        (
            {"RECOVERY_CLASSES": {"register_form": "bad:Alone"}},
            "register_form is no class that can be replaced",
        ),
        ({"RECOVERY_CLASSES": {"wings": "bad:Alone"}}, "wings is no class that can be replaced"),
    ],
)
def test_unusable_extension_stops_the_start_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], problem: str
) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError) as caught:
        create_app(load_settings(**settings))
    [found] = caught.value.problems
    assert found.name.split(".")[0] in settings
    assert problem in found.message
