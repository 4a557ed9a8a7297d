"""Code of one's own: the package of docs/extend.md, which lies outside of the tree, and its refusals."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.mailbox import text_of
from support.site import NEW_PASSWORD, OLD_PASSWORD, ROOT, Site, load_settings

from app import create_app
from app.settings.problems import SettingsError

GUIDE = (ROOT / "docs" / "extend.md").read_text()
CODE = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]  # type: ignore[index]
SETTINGS = tomllib.loads(re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)[1])  # type: ignore[index]


@pytest.fixture
def site(make_site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Sparekey with the documented package, and templates that show its variable."""
    mail = (ROOT / "templates/security/email/reset_instructions.txt").read_text()
    page = (
        '{% extends "shipped/security/reset_password.html" %}{% block scripts %}{{ hotline }}{% endblock %}'
    )
    for name, text in {
        "acme/sparekey.py": CODE,
        "templates/security/reset_password.html": page,
        "templates/security/email/reset_instructions.txt": mail.replace(
            "{% block content %}", "{% block content %}{{ hotline }} "
        ),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = str(tmp_path / "templates")
    yield make_site(**SETTINGS, RECOVERY_TEMPLATE_DIR=folder, SECURITY_CHANGE_EMAIL=True)
    for module in [module for module in sys.modules if module.split(".")[0] == "acme"]:
        del sys.modules[module]


def test_documented_package_changes_the_reset(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    visitor, program, link = site.visitor(), site.visitor(), site.new_link()
    assert "555-0100" in text_of(site.mailbox.mails[-1])  # a variable
    page = visitor.open(link, follow_redirects=True).text
    assert "555-0100" in page
    assert "I have read the rules" in page  # a field
    fields = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}
    assert "Please read the rules." in visitor.submit(link, **fields).text
    refused = program.post_json(link, json={"password": NEW_PASSWORD})
    assert (refused.status_code, [*refused.json["response"]["field_errors"]]) == (400, ["rules"])
    refused = program.post_json(link, json={"password": f"{NEW_PASSWORD} at Acme", "rules": True})
    reason = "Choose a password without the name of this company."
    assert refused.json["response"]["field_errors"]["password"] == [reason]
    assert "acme:" not in caplog.text
    assert visitor.submit(link, **fields, rules="y").location == "/reset-done"
    assert "acme: account 1 has a new password" in caplog.text  # a receiver


def test_documented_package_adds_identities_a_page_a_command_and_a_signature(site: Site) -> None:
    identities = ("email:carol@example.com", "employee_number:e-12345")
    run(site, "users", "create", *identities, "--password", OLD_PASSWORD, "--active")
    assert site.password_works(OLD_PASSWORD, "E12345")
    for typed, name in (("@alice", "alice"), ("+1 415/555/0123", "alice"), ("E-12345", "carol")):
        site.new_link(typed)
        assert site.mailbox.mails[-1]["To"] == f"{name}@example.com"
    assert "Email, employee number, username, or phone number" in site.visitor().open("/reset").text
    assert site.visitor().open("/acme").text == "Hello from Acme"
    assert run(site, "motto").output.endswith("by Acme\n")
    visitor = site.visitor()
    assert visitor.sign_in()
    visitor.submit("/change-email", email="alice@example.net")
    site.work()
    assert any("Acme, 1 Main Street" in text_of(mail) for mail in site.mailbox.mails)


BAD = 'def fails(app): raise RuntimeError("no licence")\nclass Alone: pass'


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("EXTENSIONS", ["nowhere.at_all:init_app"], "nowhere.at_all:init_app cannot be imported"),
        ("EXTENSIONS", ["bad:nothing"], "bad:nothing cannot be imported: AttributeError"),
        ("EXTENSIONS", ["bad:fails"], "bad:fails failed: RuntimeError: no licence"),
        ("EXTENSIONS", ["bad:__name__"], "bad:__name__ cannot be used"),
        ("EXTENSIONS", ["bad"], "give module:name"),
        ("CLASSES", {"password_util_cls": "bad:Alone"}, "does not derive from app.accounts.passwords.RecoveryPasswordUtil"),
        ("CLASSES", {"mail_util_cls": "flask_security:MailUtil"}, "QueuedMailUtil"),
        ("CLASSES", {"register_form": "bad:Alone"}, "register_form is no class that can be replaced"),
        ("CLASSES", {"wings": "bad:Alone"}, "wings is no class that can be replaced"),
    ],
)  # fmt: skip
def test_unusable_extension_stops_the_start_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: Any, problem: str
) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SettingsError) as caught:
        create_app(load_settings(**{f"RECOVERY_{setting}": value}))
    [found] = caught.value.problems
    assert found.name.split(".")[0] == f"RECOVERY_{setting}"
    assert problem in found.message
