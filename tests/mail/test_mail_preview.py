"""`mail preview`, `mail send-test`, and an admin's own templates."""

import re
import shutil
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import flask_security
import pytest
from click.testing import CliRunner
from support import commands
from support.mailbox import Mailbox, html_of, text_of
from support.site import ROOT, SECRETS, Site, load_settings

import manage
from app import create_app
from app.accounts.models import User
from app.db.engine import db
from app.mail import composing
from app.pages import samples
from app.recovery import not_me, notices

EMAIL = "security/email/"
FEATURES = ("CONFIRMABLE", "REGISTERABLE", "USERNAME_RECOVERY", "UNIFIED_SIGNIN")
TOTP = {"SECURITY_TOTP_SECRETS": {"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"}}


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


def test_preview_marks_own_templates_and_their_errors(environ: dict[str, str], tmp_path: Path) -> None:
    folder = Path(environ["FLASK_RECOVERY_TEMPLATE_DIR"], EMAIL)
    (folder / "reset_notice.txt").write_text("Changed, dear friend. {{ oops }}")
    (folder / "username_recovery.txt").write_text("You are {{ username }}, dear friend.")
    page = preview(environ, tmp_path)
    assert "You are alice, dear friend." in page
    assert f"{EMAIL}username_recovery.txt</code> <strong>(yours)" in page
    assert "The template uses oops" in page
    assert run(environ, "send-test", "me@example.com").exit_code == 1  # as any start but that of the preview


def test_preview_names_the_broken_translation(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "de.po").write_text('msgid "Reset your %(site)s password"\nmsgstr "%(seite)s"\n')
    environ |= {"FLASK_RECOVERY_TRANSLATION_DIR": str(tmp_path), "FLASK_BABEL_DEFAULT_LOCALE": "de"}
    page = preview(environ, tmp_path)
    assert "there is no %(seite)s" in page


def test_send_test_sends_at_once(environ: dict[str, str], mailbox: Mailbox) -> None:
    result = run(environ, "send-test", "me@Example.com", "--mail", "change_notice")
    assert (result.exit_code, "127.0.0.1 accepted it" in result.output) == (0, True), result.output
    [mail] = mailbox.mails
    assert mail["Subject"].startswith("[Test] ")
    assert mail["To"] == "me@example.com"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    demo = {"FLASK_RECOVERY_INBOX": "true", "FLASK_RECOVERY_PUBLIC_URL": "http://localhost:5000"}
    assert "in the demo inbox" in run(environ | demo, "send-test", "me@example.com").stdout
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize(
    ("words", "refuse", "reason"),
    [
        (["send-test", "nobody at all"], {}, "not an email address"),
        (["send-test", "me@example.com", "--mail", "greetings"], {}, "there are reset_instructions"),
        (["send-test", "me@example.com"], {"RCPT": "550 5.1.1 no such mailbox"}, "no such mailbox"),
        (["send-test", "me@example.com"], {"DATA": "451 later"}, "451 later"),
        (["send-test", "me@example.com"], {"MAIL": "550 not you"}, "MAIL_DEFAULT_SENDER"),
        (["preview", "--output", "/nowhere/mails.html"], {}, "cannot write /nowhere/mails.html"),
    ],
)
def test_commands_explain_a_failure(
    environ: dict[str, str], mailbox: Mailbox, words: list[str], refuse: dict[str, str], reason: str
) -> None:
    mailbox.refuse.update(refuse)
    result = run(environ, *words)
    assert (result.exit_code, reason in result.output) == (1, True), result.output
    assert "Traceback" not in result.output
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


STOCK = {
    "reset_instructions": "will expire in 2 hours",
    "reset_notice": "Your password has been reset.",
    "change_notice": "Your password has been changed.",
    "confirmation_instructions": "to confirm your email address.",
    "username_recovery": "Your username is: alice",
    "us_instructions": "using the following code:",
    "welcome": "Welcome alice@example.com!",
    "welcome_existing": "tried to register this email",
    "change_email_instructions": "to confirm your new email address.",
}


def test_templates_of_flask_security_are_rendered(tmp_path: Path) -> None:
    shutil.copytree(Path(flask_security.__file__).parent / "templates" / EMAIL, tmp_path / EMAIL)
    features = {f"SECURITY_{name}": True for name in (*FEATURES, "CHANGE_EMAIL")}
    app = create_app(load_settings(**features, **TOTP, RECOVERY_TEMPLATE_DIR=str(tmp_path)), checked=False)
    by_name = {sample.name: sample for sample in samples.MAILS}
    with app.app_context():
        for name, text in STOCK.items():
            with samples.request_context() if by_name[name].is_rendered_in_request else nullcontext():
                assert text in " ".join(samples.compose(by_name[name]).body.split())


def test_samples_have_the_variables_of_real_mails(make_site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    features = {f"SECURITY_{name}": True for name in FEATURES}
    own = {"RECOVERY_OPERATOR": "op@example.com", "RECOVERY_SECOND_ADDRESS": True}
    site: Site = make_site(**features, **TOTP, **own)
    variables: dict[str, set[str]] = {}
    write = composing.write

    def spy(message: Any, template: str, recipient: str, **context: Any) -> Any:
        variables[template] = set(context)
        return write(message, template, recipient, **context)

    monkeypatch.setattr(composing, "write", spy)
    site.visitor().post_json("/confirm", json={"email": "alice@example.com"})
    site.change(User, User.id > 1, confirmed_at=datetime.now(UTC))
    site.work()
    site.change(User, confirmed_at=datetime.now(UTC))
    site.visitor().set_password(site.new_link())
    commands.run(site, "users", "invite", "carol@example.com")
    site.ask("sso@example.com")
    owner = site.visitor()
    assert owner.sign_in("bob")
    owner.post_json("/second-address", json={"email": "bob@home.example.com"})
    site.visitor().post_json("/recover-username", json={"email": "alice@example.com"})
    for email in ("alice@example.com", "dora@example.com"):
        site.visitor().post_json("/register", json={"email": email})
    with site.app.test_request_context():
        security = site.app.extensions["security"]
        user = db.session.query(User).filter_by(username="alice").one()
        security.datastore.us_set(user, "email", security.totp_factory.generate_totp_secret())
        not_me.alert_operator(user.id)
        for kind in (
            "account_notice",
            "change_notice",
            "address_notice",
            "address_frozen",
            "address_settled",
        ):
            notices.enqueue(kind, user, "old@example.com", "new@example.com", is_done=True, changes=[])
        db.session.commit()
    site.visitor().post_json("/us-signin/send-code", json={"identity": "alice@example.com"})
    site.work()
    composed = set(composing.COMPOSERS) - {"flask_security", "webhook", "registration"}
    assert variables.keys() == composed | {"welcome", "welcome_existing", "sign_in_help"}
    by_name = {sample.name: set(sample.variables) for sample in samples.MAILS}
    assert variables == {name: by_name[name] for name in variables}
