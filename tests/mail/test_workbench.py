"""The mail workbench: see every mail, send one, and put a file of your own in its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from playwright.sync_api import Page
from support.mailbox import Mailbox
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


def types(environ: dict[str, str], *words: str) -> Any:
    return CliRunner().invoke(manage.cli, list(words), env=environ)


def own(environ: dict[str, str], name: str, content: str) -> None:
    Path(environ["FLASK_RECOVERY_TEMPLATE_DIR"], name).write_text(content)


def gallery(environ: dict[str, str], tmp_path: Path) -> str:
    ended = types(environ, "mail", "preview", "--output", str(tmp_path / "mails.html"))
    assert ended.exit_code == 0, ended.output
    return (tmp_path / "mails.html").read_text()


def test_the_gallery_shows_every_mail_light_dark_and_as_text(environ: dict[str, str], tmp_path: Path) -> None:
    page = gallery(environ, tmp_path)
    names = [path.name.removesuffix(".html") for path in (ROOT / "templates" / EMAIL).glob("[!_]*.html")]
    assert len(names) >= 9
    for name in names:
        assert page.count(f'title="{name}, ') == 2, name
        assert f"{EMAIL}{name}.txt" in page
    assert "https://id.example.com/reset/" in page
    assert "<code>reset_token</code>" in page
    assert "is not sent, as things are set" in page


def test_the_gallery_shows_what_is_ones_own_and_what_is_wrong_with_it(
    environ: dict[str, str], tmp_path: Path
) -> None:
    own(environ, f"{EMAIL}reset_notice.txt", "Changed, dear friend. {{ oops }}")
    own(environ, f"{EMAIL}username_recovery.txt", "You are {{ username }}, dear friend.")
    page = gallery(environ, tmp_path)
    assert "You are alice, dear friend." in page
    assert f"{EMAIL}username_recovery.txt</code> <strong>(yours)" in page
    assert "The template uses oops" in page
    assert types(environ, "mail", "send-test", "me@example.com").exit_code == 1  # it stops every other start


def test_the_gallery_in_a_browser(environ: dict[str, str], tmp_path: Path, page: Page) -> None:
    gallery(environ, tmp_path)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{tmp_path}/mails.html")
    seen = {}
    for scheme in ("light", "dark"):
        frame = page.frame_locator(f'iframe[title="reset_instructions, {scheme}"]')
        assert frame.get_by_role("link", name="Choose a new password").is_visible()
        seen[scheme] = frame.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert seen["light"] != seen["dark"]
    assert {url.split(":")[0] for url in asked} <= {"file", "about"}


def test_a_page_that_can_not_be_written_is_said(environ: dict[str, str]) -> None:
    ended = types(environ, "mail", "preview", "--output", "/nowhere/mails.html")
    assert (ended.exit_code, "cannot write /nowhere/mails.html" in ended.output) == (1, True)


def test_a_test_mail_goes_out_at_once(environ: dict[str, str], mailbox: Mailbox) -> None:
    for number, name in enumerate(("reset_instructions", "change_notice"), start=1):
        ended = types(environ, "mail", "send-test", "me@Example.com", "--mail", name)
        assert ended.exit_code == 0, ended.output
        assert "127.0.0.1 has accepted it" in ended.output
        sent = mailbox.wait_for(number)
        assert sent["Subject"].startswith("[Test] ")
        assert sent["To"] == "me@example.com"
        assert [part.get_content_type() for part in sent.iter_parts()] == ["text/plain", "text/html"]


@pytest.mark.parametrize(
    ("words", "refuse", "said"),
    [
        (["nobody at all"], {}, "is no mail address"),
        (["me@example.com", "--mail", "greetings"], {}, "there are reset_instructions"),
        (["me@example.com"], {"RCPT": "550 5.1.1 no such mailbox"}, "no such mailbox"),
        (["me@example.com"], {"DATA": "451 later"}, "451 later"),
        (["me@example.com"], {"MAIL": "550 not you"}, "MAIL_DEFAULT_SENDER"),
    ],
)
def test_a_test_mail_that_does_not_go_out_says_why(
    environ: dict[str, str], mailbox: Mailbox, words: list[str], refuse: dict[str, str], said: str
) -> None:
    mailbox.refuse.update(refuse)
    ended = types(environ, "mail", "send-test", *words)
    assert ended.exit_code == 1
    assert said in ended.output
    assert "Traceback" not in ended.output
    assert not mailbox.mails


def test_a_relay_that_is_away_is_said(environ: dict[str, str]) -> None:
    ended = types({**environ, "FLASK_MAIL_PORT": "1"}, "mail", "send-test", "me@example.com")
    assert (ended.exit_code, "cannot be reached" in ended.output) == (1, True)


def test_in_the_demo_a_test_mail_stays_in_the_inbox(environ: dict[str, str], mailbox: Mailbox) -> None:
    demo = {"FLASK_RECOVERY_INBOX": "true", "FLASK_RECOVERY_PUBLIC_URL": "http://localhost:5000"}
    ended = types({**environ, **demo}, "mail", "send-test", "me@example.com")
    assert "in the demo's inbox" in ended.stdout, ended.output
    assert not mailbox.mails


def test_a_file_of_ones_own_replaces_a_mail(make_site: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    (folder / EMAIL).mkdir(parents=True)
    link = '{{ url_for("security.reset_password", token=reset_token, _external=True) }}'
    (folder / f"{EMAIL}reset_instructions.txt").write_text(f"Ahoy! {link}")
    (folder / f"{EMAIL}reset_instructions.html").write_text(
        '{% extends "shipped/security/email/reset_instructions.html" %}'
        "{% block content %}<p>Ahoy!</p>{{ super() }}{% endblock %}"
    )
    site: Site = make_site(RECOVERY_TEMPLATE_DIR=str(folder))
    link = site.new_link()
    sent = site.mailbox.mails[0]
    text, html = (part.get_content() for part in sent.iter_parts())
    assert text.split()[0] == "Ahoy!"
    assert text.split()[1].startswith("http://")
    assert "Ahoy!" in html
    assert "Choose a new password" in html
    assert sent["Subject"] == "Reset your Sparekey password"
    assert site.visitor().set_password(link).status_code == 302


def test_a_file_of_ones_own_replaces_a_page(make_site: Any, tmp_path: Path) -> None:
    (tmp_path / "security").mkdir()
    (tmp_path / "security" / "check_mail.html").write_text(
        '{% extends "shipped/security/check_mail.html" %}'
        "{% block content %}{{ super() }}<p>Our post takes its time.</p>{% endblock %}"
    )
    site: Site = make_site(RECOVERY_TEMPLATE_DIR=str(tmp_path))
    page = site.visitor().open("/check-mail").text
    assert "Check your mail" in page
    assert "Our post takes its time." in page


def test_every_mail_has_a_sample_with_what_it_is_really_given(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `check` and the gallery promise about variables is what the worker gives."""
    site: Site = make_site(
        SECURITY_CONFIRMABLE=True,
        SECURITY_REGISTERABLE=True,
        SECURITY_USERNAME_RECOVERY=True,
        SECURITY_UNIFIED_SIGNIN=True,
        SECURITY_TOTP_SECRETS={"1": "TjQ9Qa31VOrfEzuPy4VHQWPCTmRzCnFz"},
        RECOVERY_OPERATOR="op@example.com",
    )
    made = {sample.name: sample for sample in samples.MAILS}
    assert set(composing.COMPOSERS) - {"flask_security"} <= made.keys()
    given: dict[str, set[str]] = {}
    write = composing.write

    def spy(message: Any, template: str, recipient: str, **context: Any) -> Any:
        given[template] = set(context)
        return write(message, template, recipient, **context)

    monkeypatch.setattr(composing, "write", spy)
    site.change(User, confirmed_at=datetime.now(UTC))
    link = site.new_link()
    site.visitor().set_password(link)
    site.visitor().post_json("/recover-username", json={"email": "alice@example.com"})
    site.work()
    with site.app.app_context():
        user = db.session.query(User).filter_by(username="alice").one()
        not_me.alert_operator(user.id)
        with site.app.test_request_context():
            notices.on_address_changed(site.app, user, "old@example.com")
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
    assert given.keys() == set(composing.COMPOSERS) - {"flask_security"} | {"registration_existing"}
    for name, names in given.items():
        assert names == set(made[name].variables), name


def test_dark_is_found_however_it_is_written() -> None:
    assert DARK.sub("all", "@media (prefers-color-scheme:dark) {") == "@media all {"
    assert DARK.sub("all", "@media ( prefers-color-scheme : dark ) {") == "@media all {"
