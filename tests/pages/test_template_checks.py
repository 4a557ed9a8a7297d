"""Checks of an admin's templates: defects are named, and templates that work are left alone."""

from __future__ import annotations

from pathlib import Path

import flask_security
import pytest
from support.site import ROOT, load_settings

from app import create_app
from app.pages.template_checks import check_templates
from app.settings.findings import Finding

SHIPPED = ROOT / "templates/security"
INSTRUCTIONS = "email/reset_instructions"
SUBJECT, TEXT, HTML = (f"{INSTRUCTIONS}{ending}" for ending in (".subject.txt", ".txt", ".html"))
SHIPPED_TEXT, SHIPPED_HTML = (SHIPPED / TEXT).read_text(), (SHIPPED / HTML).read_text()
FORGOT = "forgot_password.html"
SHIPPED_FORGOT = (SHIPPED / FORGOT).read_text()
LINK = '{{ url_for("security.reset_password", token=reset_token, _external=True) }}'
EXTENDS_FORGOT = '{% extends "shipped/security/forgot_password.html" %}'


def findings(folder: Path, files: dict[str, str | bytes], **settings: object) -> list[Finding]:
    """Put the files into templates/security, and check them."""
    for name, content in files.items():
        path = folder / "security" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    app = create_app(load_settings(RECOVERY_TEMPLATE_DIR=str(folder), **settings), checked=False)
    with app.app_context():
        return check_templates()


BAD_TEMPLATES: dict[str, tuple[str, str, str, str | bytes]] = {
    "open block": ("template-broken", "remove it", HTML, SHIPPED_HTML + "{% if x %}"),
    "missing parent": ("template-broken", "remove it", HTML, '{% extends "security/mine.html" %}'),
    "error of Python": (
        "template-broken",
        "remove it",
        TEXT,
        SHIPPED_TEXT.replace("Hello", "") + "{% block footer %}{{ 1 / 0 }}{% endblock %}",
    ),
    "other encoding": ("template-broken", "remove it", TEXT, "Grüße".encode("latin-1")),
    "parent of itself": (
        "template-broken",
        "shipped/security/forgot_password.html",
        FORGOT,
        '{% extends "security/forgot_password.html" %}',
    ),
    "open block in a page of Flask-Security": (
        "template-broken",
        "remove it",
        "verify.html",
        "{% block content %}",
    ),
    "unknown variable": ("template-variable", "reset_token", TEXT, SHIPPED_TEXT + "{{ user.name }}"),
    "unknown variable in a branch": (
        "template-variable",
        "reset_token",
        TEXT,
        SHIPPED_TEXT + "{% if not settings.MAIL_PORT %}{{ username }}{% endif %}",
    ),
    "unknown variable in a page": (
        "template-variable",
        "forgot_password_form",
        FORGOT,
        SHIPPED_FORGOT.replace("<h1>", "<h1>{{ username }}"),
    ),
    "unknown setting": (
        "template-setting",
        "config show",
        HTML,
        SHIPPED_HTML.replace("<p>", "<p>{{ settings.SITE }}", 1),
    ),
    "text without link": ("template-without-link", "token=reset_token", TEXT, "Hello, see the other part."),
    "HTML without link": (
        "template-without-link",
        "token=reset_token",
        HTML,
        SHIPPED_HTML.replace("token=reset_token", "token=objection"),
    ),
    "no objection": ("template-without-objection", "objections.land", TEXT, f"Hello, {LINK}"),
    "empty text": ("template-empty", "remove it", TEXT, "{# later #}"),
    "empty subject": ("template-empty", "remove it", SUBJECT, ""),
    "subject of two lines": ("template-subject", "one line", SUBJECT, "Reset\nyour password"),
    "unknown block": (
        "template-block-unused",
        "content",
        TEXT,
        '{% extends "shipped/security/email/reset_instructions.txt" %}{% block contents %}x{% endblock %}',
    ),
    "misspelled name": ("template-replaces-nothing", "name", "email/reset_instruction.txt", "Hello"),
    "form without token": (
        "template-without-field",
        "forgot_password.html",
        FORGOT,
        SHIPPED_FORGOT.replace("{{ forgot_password_form.hidden_tag() }}", ""),
    ),
    "form without field": (
        "template-without-field",
        "lacks email",
        FORGOT,
        SHIPPED_FORGOT.replace("forgot_password_form.email,", "forgot_password_form.submit,"),
    ),
    "content without form": (
        "template-without-field",
        "forgot_password.html",
        FORGOT,
        EXTENDS_FORGOT + "{% block content %}Soon.{% endblock %}",
    ),
    "inline style": (
        "template-blocked",
        "Remove it",
        FORGOT,
        SHIPPED_FORGOT.replace("<h1>", '<h1 style="color:red">'),
    ),
    "foreign script": (
        "template-blocked",
        "nonce",
        FORGOT,
        SHIPPED_FORGOT.replace("<h1>", '<script src="https://cdn.example.com/a.js"></script><h1>'),
    ),
    "foreign image": (
        "template-remote",
        "Remove it",
        HTML,
        SHIPPED_HTML.replace("<p>", '<p><img src="https://t.example.com/p.png" alt="">', 1),
    ),
}


@pytest.mark.parametrize(("id", "hint", "name", "content"), BAD_TEMPLATES.values(), ids=BAD_TEMPLATES)
def test_template_defect_is_named_with_file_and_hint(
    tmp_path: Path, id: str, hint: str, name: str, content: str | bytes
) -> None:
    found = {finding.id: finding for finding in findings(tmp_path, {name: content})}
    assert id in found, found
    assert name in found[id].where
    assert hint in f"{found[id].what} {found[id].hint}"


GOOD_PAGE = """
{% include "brand.html" ignore missing %} {% include ["a.html", "security/_menu.html"] %}
{{ note|default("") }}{% if note is defined %}{{ note }}{% endif %}
{% if request.args.embed %}x{% endif %}{{ session.lang or "" }}{{ g.x or "" }}{{ request.cookies.theme }}
{% for x in [1, 2] %}{% if loop.previtem %}{{ x }}{% endif %}{% endfor %}
{% macro m(a, b) %}{{ a }}{% if b %}{{ b }}{% endif %}{% endmacro %}{{ m(1) }}
{% set x = 1 %}{% with y = x %}{{ y }}{% endwith %}{{ _fsdomain("Login") }}
<p title="{{ _("Do it on style ones") }}">Look.</p>
"""
GOOD_BASE = (SHIPPED / "base.html").read_text()
GOOD_BASE = GOOD_BASE.replace(
    "<body>", '<body class="{{ section|default("a") }}">{% if request_id is defined %}{% endif %}'
)
GOOD_TEMPLATES: dict[str, str | bytes] = {
    "check_mail.html": GOOD_PAGE,
    "base.html": GOOD_BASE,
    "login_user.html": '{% extends "shipped/security/login_user.html" %}'
    "{% block scripts %}<script {{ script_nonce() }}>go()</script>{% endblock %}"
    '{% from "security/_macros.html" import script_nonce with context %}',
    "register_user.html": "{{ oops }}",  # the feature is off
    "home.html": '<a href="https://app.example.com/">Go on</a>',
    TEXT: "myapp://reset?token={{ reset_token }} {{ objection }}",
    "email/two_factor_instructions.txt": "{{ token[:3] }} {{ token[3:] }}",
    "email/change_notice.txt": "From {{ request.remote_addr }} "
    '{{ user.create_datetime.strftime("%Y") }} {{ user.id + 0 }}',
}


def test_good_templates_have_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD_TEMPLATES) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (FORGOT, "{% set f = forgot_password_form %}<form>{{ f.csrf_token }}{{ f.email }}</form>"),
        (FORGOT, '<form><input name="csrf_token" value="{{ csrf_token() }}"><input name="identity"></form>'),
        (FORGOT, "<form>{% for field in forgot_password_form %}{{ field }}{% endfor %}</form>"),
        (FORGOT, EXTENDS_FORGOT + "{% block content %}{{ super() }}Hi!{% endblock %}"),
        (
            TEXT,
            'https://go.example/?u={{ ("https://id.example.com/reset/" ~ reset_token)|urlencode }} {{ objection }}',
        ),
    ],
)
def test_field_or_link_is_recognized_however_it_is_written(tmp_path: Path, name: str, content: str) -> None:
    assert findings(tmp_path, {name: content}) == []


def test_text_file_beside_templates_is_a_warning(tmp_path: Path) -> None:
    [finding] = findings(tmp_path, {"README.txt": "Mine. {{ not a template"})
    assert (finding.id, finding.severity) == ("template-replaces-nothing", "warning")


def test_templates_copied_from_flask_security_have_no_errors(tmp_path: Path) -> None:
    """Its documentation suggests to copy them. Those that mail links are Sparekey's own."""
    folder = Path(flask_security.__file__).parent / "templates/security"
    own = ("base.html", "reset_instructions", "reset_notice", "confirmation_", "forgot_password", "_m")
    paths = [path for path in folder.rglob("*.*") if not path.name.startswith(own)]
    assert len(paths) > 30
    copies: dict[str, str | bytes] = {str(path.relative_to(folder)): path.read_text() for path in paths}
    assert [finding for finding in findings(tmp_path, copies) if finding.severity == "error"] == []


def test_symbolic_links_to_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "email"
    elsewhere.mkdir(parents=True)
    (elsewhere / "reset_instructions.txt").write_text("no link")
    (elsewhere / "loop").symlink_to(elsewhere)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/security").symlink_to(tmp_path / "elsewhere")
    assert "template-without-link" in [finding.id for finding in findings(tmp_path / "templates", {})]


@pytest.mark.parametrize(
    ("id", "settings"),
    [
        ("template-subject", {"SECURITY_EMAIL_SUBJECT_PASSWORD_CHANGE_NOTICE": "a\nb"}),
        ("template-empty", {"SECURITY_CHANGE_EMAIL": True, "SECURITY_CHANGE_EMAIL_SUBJECT": ""}),
    ],
)
def test_subject_that_is_a_setting_is_checked(tmp_path: Path, id: str, settings: dict[str, object]) -> None:
    assert [finding.id for finding in findings(tmp_path, {}, **settings)] == [id]
