"""Checks of an admin's templates: defects are named, and templates that work are left alone."""

from pathlib import Path

import flask_security
import pytest
from looks.gallery import FULL
from support.site import ROOT, load_settings

from app import create_app
from app.pages.template_checks import check_templates
from app.settings.findings import Finding

SHIPPED, STOCK = ROOT / "templates/security", Path(flask_security.__file__).parent / "templates/security"
SUBJECT, TEXT, HTML = (f"email/reset_instructions{ending}" for ending in (".subject.txt", ".txt", ".html"))
FORGOT = "forgot_password.html"
LINK = '{{ url_for("security.reset_password", token=reset_token, _external=True) }}'
EXTENDS_FORGOT = '{% extends "shipped/security/forgot_password.html" %}'
EXTENDS_TEXT = f'{{% extends "shipped/security/{TEXT}" %}}'
OUTER = "{% block outer %}{% block footer %}{% endblock %}{% endblock %}"
FOREIGN_IMAGE = '<img src="https://t.example.com/p.png" alt="">'


def findings(folder: Path, files: dict[str, str | bytes], **settings: object) -> list[Finding]:
    """Put the files into templates/security, and check them."""
    for name, content in files.items():
        path = folder / "security" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    app = create_app(load_settings(RECOVERY_TEMPLATE_DIR=str(folder), **settings), checked=False)
    with app.app_context():
        return check_templates()


def edited(name: str, edit: str) -> str:
    """Apply "old => new" to the shipped template. Other text is the content; "..." in it is the shipped one."""
    shipped = (SHIPPED / name).read_text() if (SHIPPED / name).exists() else ""
    old, arrow, new = edit.partition(" => ")
    assert not arrow or old in shipped
    return shipped.replace(old, new, 1) if arrow else edit.replace("...", shipped)


@pytest.mark.parametrize(
    ("id", "hint", "name", "edit"),
    [
        ("template-broken", "remove it", HTML, "...{% if x %}"),
        ("template-broken", "remove it", HTML, '{% extends "security/mine.html" %}'),
        ("template-broken", "remove it", TEXT, "...{% block footer %}{{ 1 / 0 }}{% endblock %}"),
        ("template-broken", "shipped/security/", FORGOT, '{% extends "security/forgot_password.html" %}'),
        ("template-broken", "remove it", "verify.html", "{% block content %}"),
        ("template-variable", "reset_token", TEXT, "...{{ account.name }}"),
        ("template-variable", "reset_token", TEXT, "...{% if not settings.MAIL_PORT %}{{ x }}{% endif %}"),
        ("template-variable", "forgot_password_form", FORGOT, "<h1> => <h1>{{ username }}"),
        ("template-setting", "config show", HTML, "<p> => <p>{{ settings.SITE }}"),
        ("template-without-link", "token=reset_token", TEXT, "Hello, see the other part."),
        ("template-without-link", "token=reset_token", HTML, "token=reset_token => token=objection"),
        ("template-without-objection", "objections.land", TEXT, f"Hello, {LINK}"),
        ("template-empty", "remove it", TEXT, "{# later #}"),
        ("template-empty", "remove it", SUBJECT, ""),
        ("template-replaces-nothing", "name", "email/reset_instruction.txt", "Hello"),
        ("template-replaces-nothing", "name", "README.txt", "Mine. {{ not a template"),
        ("template-without-field", FORGOT, FORGOT, "{{ forgot_password_form.hidden_tag() }} => "),
        ("template-without-field", "lacks email", FORGOT, "password_form.email, => password_form.submit,"),
        ("template-without-field", FORGOT, FORGOT, EXTENDS_FORGOT + "{% block content %}Soon.{% endblock %}"),
        ("template-remote", "Remove it", HTML, f"<p> => <p>{FOREIGN_IMAGE}"),
        ("template-block", "mean content?", TEXT, f"{EXTENDS_TEXT}{{% block contents %}}Hi!{{% endblock %}}"),
        ("template-block", "footer", TEXT, f"{EXTENDS_TEXT}{{% if x is defined %}}{OUTER}{{% endif %}}"),
        ("template-block", "languages", FORGOT, f"{EXTENDS_FORGOT}{OUTER}"),
    ],
)
def test_template_defect_is_named_with_file_and_hint(
    tmp_path: Path, id: str, hint: str, name: str, edit: str
) -> None:
    by_id = {finding.id: finding for finding in findings(tmp_path, {name: edited(name, edit)})}
    assert id in by_id, by_id
    assert name in by_id[id].where
    assert hint in f"{by_id[id].what} {by_id[id].hint}"


def test_template_in_other_encoding_is_broken(tmp_path: Path) -> None:
    assert findings(tmp_path, {TEXT: "Grüße".encode("latin-1")})[0].id == "template-broken"


GOOD_PAGE = """
{% include "brand.html" ignore missing %} {% include ["a.html", "security/_menu.html"] %}
{{ note|default("") }}{% if note is defined %}{{ note }}{% endif %}
{% if request.args.embed %}x{% endif %}{{ session.lang or "" }}{{ g.x or "" }}{{ request.cookies.theme }}
{% for x in [1, 2] %}{% if loop.previtem %}{{ x }}{% endif %}{% endfor %}
{% macro m(a, b) %}{{ a }}{% if b %}{{ b }}{% endif %}{% endmacro %}{{ m(1) }}
{% set x = 1 %}{% with y = x %}{{ y }}{% endwith %}{{ _fsdomain("Login") }}
<p title="{{ _("Do it on style ones") }}">Look.</p>
"""
GOOD_BODY = '<body class="{{ section|default("a") }}">{% if request_id is defined %}{% endif %}'
GOOD_TEMPLATES: dict[str, str | bytes] = {
    "check_mail.html": GOOD_PAGE,
    "base.html": edited("base.html", f"<body> => {GOOD_BODY}"),
    "login_user.html": '{% extends "shipped/security/login_user.html" %}'
    "{% block scripts %}<script {{ script_nonce() }}>go()</script>{% endblock %}"
    '{% from "security/_macros.html" import script_nonce with context %}',
    "register_user.html": "{{ oops }}",  # the feature is off
    "home.html": '<a href="https://app.example.com/">Go on</a>',
    TEXT: "myapp://reset?token={{ reset_token }} {{ objection }}",
    "email/two_factor_instructions.txt": "{{ token[:3] }} {{ token[3:] }} From {{ request.remote_addr }} "
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
        (TEXT, 'https://go.example/?u={{ ("https://id.example.com/reset/" ~ reset_token)|urlencode }} {{ objection }}'),
    ],
)  # fmt: skip
def test_field_or_link_is_recognized_however_it_is_written(tmp_path: Path, name: str, content: str) -> None:
    assert findings(tmp_path, {name: content}) == []


def test_block_that_is_rendered_is_no_finding(tmp_path: Path) -> None:
    """It may be new within a known block, or of a template that Sparekey cannot name."""
    new = "{% block content %}{{ super() }}{% block signature %}Us{% endblock %}{% endblock %}"
    new = "{% block name %}Us{% endblock %}" + new.replace("Us", "{{ self.name() }}")
    own = '{% extends "mine.txt" %}{% block signature %}You{% endblock %}'
    unknown = "{% set base = 'shipped/security/home.html' %}{% extends base %}" + OUTER
    assert findings(tmp_path, {"../mine.txt": EXTENDS_TEXT + new, TEXT: own, "home.html": unknown}) == []


@pytest.mark.parametrize(("folder", "every"), [(SHIPPED, 3), (STOCK, 1)], ids=["Sparekey", "Flask-Security"])
def test_copied_templates_have_no_errors_with_all_features(tmp_path: Path, folder: Path, every: int) -> None:
    """Flask-Security's documentation suggests to copy its own."""
    paths = sorted(folder.rglob("*.*"))[::every]
    copies: dict[str, str | bytes] = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    assert len(copies) > 25
    assert [finding for finding in findings(tmp_path, copies, **FULL) if finding.severity == "error"] == []


def test_symbolic_links_to_folders_are_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/email").mkdir(parents=True)
    (tmp_path / "elsewhere/email/reset_instructions.txt").write_text("no link")
    (tmp_path / "elsewhere/email/loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "security").symlink_to(tmp_path / "elsewhere")
    assert "template-without-link" in [finding.id for finding in findings(tmp_path, {})]


def test_subject_that_is_a_setting_is_checked(tmp_path: Path) -> None:
    settings = {"SECURITY_CHANGE_EMAIL": True, "SECURITY_CHANGE_EMAIL_SUBJECT": ""}
    [finding] = findings(tmp_path, {}, **settings)
    assert finding.id == "template-empty"
    assert "subject" in finding.why
    assert "file" not in finding.hint


@pytest.mark.parametrize("typo", ["%(sitename)s", "%(site)", "{{ site }}"])
def test_placeholder_that_nothing_replaces_is_found_in_a_subject(tmp_path: Path, typo: str) -> None:
    settings = {"SECURITY_CHANGE_EMAIL": True, "SECURITY_CHANGE_EMAIL_SUBJECT": f"A link for {typo}"}
    [finding] = findings(tmp_path, {}, **settings)
    assert (finding.id, finding.severity) == ("subject-placeholder", "warning")
    assert typo in finding.what
    assert findings(tmp_path, {}, **settings | {"SECURITY_CHANGE_EMAIL_SUBJECT": "100 % of %(site)s"}) == []
