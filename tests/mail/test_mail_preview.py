"""`mail preview`, `mail send-test`, and an admin's own templates."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from support import commands
from support.mailbox import Mailbox, html_of, text_of
from support.site import ROOT, SECRETS, Site

import manage
from app.accounts.models import User
from app.cli.mail import DARK
from app.db.engine import db
from app.mail import composing
from app.pages import samples
from app.recovery import not_me, notices

EMAIL = "security/email/"


@pytest.fixture
def environ(tmp_path: Path, mailbox: Mailbox) -> dict[str, str]:
    (tmp_path / "templates" / EMAIL).mkdir(parents=True)
    return {
        **SECRETS,
        "FLASK_RECOVERY_PUBLIC_URL": "https://id.example.com",
        "FLASK_MAIL_SERVER": "127.0.0.1",
        "FLASK_MAIL_PORT": str(mailbox.port),
        "FLASK_MAIL_DEFAULT_SENDER": "Us <no-reply@example.com>",
        "FLASK_RECOVERY_TEMPLATE_DIR": str(tmp_path / "templates"),
        "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/none.db",
    }


def run(environ: dict[str, str], *words: str) -> Any:
    return CliRunner().invoke(manage.cli, ["mail", *words], env=environ)


def preview(environ: dict[str, str], tmp_path: Path) -> str:
    result = run(environ, "preview", "--output", str(tmp_path / "mails.html"))
    assert result.exit_code == 0, result.output
    return (tmp_path / "mails.html").read_text()


def test_preview_shows_every_mail_light_dark_and_as_text(environ: dict[str, str], tmp_path: Path) -> None:
    page = preview(environ, tmp_path)
    names = [path.name.removesuffix(".html") for path in (ROOT / "templates" / EMAIL).glob("[!_]*.html")]
    assert len(names) >= 9
    for name in names:
        assert page.count(f'<iframe sandbox title="{name}, ') == 2, name
        assert f"{EMAIL}{name}.txt" in page
    assert page.count("@media all") == page.count("@media not all") == len(samples.MAILS)
    assert not re.search(r'(src|href)="https?:|@import|url\(', page)
    assert "https://id.example.com/reset/" in page
    assert "<code>reset_token</code>" in page
    assert "not sent with the current settings" in page


def test_preview_recognizes_dark_styles_in_any_spelling() -> None:
    assert DARK.sub("all", "@media (prefers-color-scheme:dark) {") == "@media all {"
    assert DARK.sub("all", "@media ( prefers-color-scheme : dark ) {") == "@media all {"


def test_preview_marks_own_templates_and_their_errors(environ: dict[str, str], tmp_path: Path) -> None:
    folder = Path(environ["FLASK_RECOVERY_TEMPLATE_DIR"], EMAIL)
    (folder / "reset_notice.txt").write_text("Changed, dear friend. {{ oops }}")
    (folder / "username_recovery.txt").write_text("You are {{ username }}, dear friend.")
    page = preview(environ, tmp_path)
    assert "You are alice, dear friend." in page
    assert f"{EMAIL}username_recovery.txt</code> <strong>(yours)" in page
    assert "The template uses oops" in page
    assert run(environ, "send-test", "me@example.com").exit_code == 1  # as any start but that of the preview


def test_preview_reports_a_file_that_cannot_be_written(environ: dict[str, str]) -> None:
    result = run(environ, "preview", "--output", "/nowhere/mails.html")
    assert (result.exit_code, "cannot write /nowhere/mails.html" in result.output) == (1, True)


def test_send_test_sends_at_once(environ: dict[str, str], mailbox: Mailbox) -> None:
    for number, name in enumerate(("reset_instructions", "change_notice"), start=1):
        result = run(environ, "send-test", "me@Example.com", "--mail", name)
        assert result.exit_code == 0, result.output
        assert "127.0.0.1 accepted it" in result.output
        mail = mailbox.wait_for(number)
        assert mail["Subject"].startswith("[Test] ")
        assert mail["To"] == "me@example.com"
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    ("words", "overrides", "refuse", "reason"),
    [
        (["nobody at all"], {}, {}, "not an email address"),
        (["me@example.com", "--mail", "greetings"], {}, {}, "there are reset_instructions"),
        (["me@example.com"], {}, {"RCPT": "550 5.1.1 no such mailbox"}, "no such mailbox"),
        (["me@example.com"], {}, {"DATA": "451 later"}, "451 later"),
        (["me@example.com"], {}, {"MAIL": "550 not you"}, "MAIL_DEFAULT_SENDER"),
        (["me@example.com"], {"FLASK_MAIL_PORT": "1"}, {}, "cannot be reached"),
    ],
)
def test_send_test_explains_a_failure(
    environ: dict[str, str],
    mailbox: Mailbox,
    words: list[str],
    overrides: dict[str, str],
    refuse: dict[str, str],
    reason: str,
) -> None:
    mailbox.refuse.update(refuse)
    result = run(environ | overrides, "send-test", *words)
    assert result.exit_code == 1
    assert reason in result.output
    assert "Traceback" not in result.output
    assert not mailbox.mails


def test_send_test_stays_in_the_demos_inbox(environ: dict[str, str], mailbox: Mailbox) -> None:
    demo = {"FLASK_RECOVERY_INBOX": "true", "FLASK_RECOVERY_PUBLIC_URL": "http://localhost:5000"}
    result = run(environ | demo, "send-test", "me@example.com")
    assert "in the demo inbox" in result.stdout, result.output
    assert not mailbox.mails


def test_own_templates_replace_a_mail_and_a_page(make_site: Any, tmp_path: Path) -> None:
    (tmp_path / EMAIL).mkdir(parents=True)
    url = 'url_for("security.reset_password", token=reset_token, _external=True)'
    own = {
        f"{EMAIL}reset_instructions.txt": f"Ahoy! {{{{ {url} }}}}",
        f"{EMAIL}reset_instructions.html": '{% extends "security/email/_layout.html" %}'
        '{% from "security/email/_macros.html" import button %}'
        f'{{% block content %}}<h1>Ahoy</h1>{{{{ button({url}, "Aye") }}}}{{% endblock %}}',
        "security/check_mail.html": '{% extends "shipped/security/check_mail.html" %}'
        "{% block content %}{{ super() }}<p>Our post takes its time.</p>{% endblock %}",
    }
    for name, content in own.items():
        (tmp_path / name).write_text(content)
    silenced = ["template-without-objection"]
    site: Site = make_site(RECOVERY_TEMPLATE_DIR=str(tmp_path), RECOVERY_SILENCED=silenced)
    page = site.visitor().open("/check-mail").text
    assert "Check your email" in page
    assert "Our post takes its time." in page
    link = site.new_link()
    mail = site.mailbox.mails[0]
    assert text_of(mail).split() == ["Ahoy!", link]
    assert mail["Subject"] == "Reset your Sparekey password"
    html = html_of(mail)
    assert re.search(r'<h1 style="[^"]+">Ahoy</h1>', html)
    assert re.search(r'<td class="press"[^>]+><a href="[^"]+" style="[^"]*display:block[^"]*">Aye</a>', html)
    assert site.visitor().set_password(link).status_code == 302


def test_samples_have_the_variables_of_real_mails(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site: Site = make_site(
        SECURITY_CONFIRMABLE=True,
        SECURITY_REGISTERABLE=True,
        SECURITY_USERNAME_RECOVERY=True,
        SECURITY_UNIFIED_SIGNIN=True,
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
        RECOVERY_OPERATOR="op@example.com",
        RECOVERY_SECOND_ADDRESS=True,
    )
    composed = set(composing.COMPOSERS) - {"flask_security", "webhook"}
    variables: dict[str, set[str]] = {}
    write = composing.write

    def spy(message: Any, template: str, recipient: str, **context: Any) -> Any:
        variables[template] = set(context)
        return write(message, template, recipient, **context)

    monkeypatch.setattr(composing, "write", spy)
    site.change(User, User.id > 0, confirmed_at=datetime.now(UTC))
    site.visitor().set_password(site.new_link())
    site.visitor().post_json("/recover-username", json={"email": "alice@example.com"})
    commands.run(site, "users", "invite", "carol@example.com")
    site.ask("sso@example.com")
    owner = site.visitor()
    assert owner.sign_in("bob")
    owner.post_json("/second-address", json={"email": "bob@home.example.com"})
    site.work()
    with site.app.app_context():
        user = db.session.query(User).filter_by(username="alice").one()
        not_me.alert_operator(user.id)
        with site.app.test_request_context():
            for kind in (
                "account_notice",
                "change_notice",
                "address_notice",
                "address_frozen",
                "address_settled",
            ):
                notices.enqueue(kind, user, "old@example.com", "new@example.com", is_done=True, changes=[])
            db.session.commit()
    site.change(User, confirmed_at=None)
    site.visitor().post_json("/confirm", json={"email": "alice@example.com"})
    site.work()
    site.change(User, confirmed_at=datetime.now(UTC))
    for email in ("alice@example.com", "dora@example.com"):
        site.visitor().post_json("/register", json={"email": email})
    with site.app.app_context():
        security = site.app.extensions["security"]
        secret = security.totp_factory.generate_totp_secret()
        security.datastore.us_set(db.session.query(User).filter_by(username="alice").one(), "email", secret)
        db.session.commit()
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice@example.com"})
    site.work()
    assert variables.keys() == composed - {"registration"} | {"welcome", "welcome_existing", "sign_in_help"}
    by_name = {sample.name: set(sample.variables) for sample in samples.MAILS}
    assert variables == {name: by_name[name] for name in variables}
