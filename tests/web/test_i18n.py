"""Languages of pages and mails: which one is used, the switch, and formats of times and durations."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from support.mailbox import html_of
from support.site import NEW_PASSWORD, Site, load_settings
from support.translations import language_of, write_translations

from app import create_app
from app.accounts.models import User
from app.cli import mail
from app.db.engine import db
from app.mail import outbox
from app.mail.outbox import OutboxMessage
from app.web import i18n

GERMAN = {"Accept-Language": "de"}


def test_page_language_is_the_first_accepted_one_that_is_offered(site: Site) -> None:
    for accepted, language in [
        ("de-AT, en;q=0.5", "de"),
        ("nl, fr-CA;q=0.8, en;q=0.5", "fr"),
        ("nl", "en"),
        ("", "en"),
        ("ar-EG", "ar"),
        ("*", "en"),
        ("en;q=\xff, \x7f;;;", "en"),
    ]:
        page = site.visitor().open("/login", headers={"Accept-Language": accepted})
        assert language_of(page) == language, accepted


def test_page_language_is_found_without_script_and_country(make_site: Any, tmp_path: Path) -> None:
    for language in ("pt_BR", "zh_Hans_CN"):
        folder = write_translations(tmp_path / "words", language, {"Sign in": language})
    offered = ["en", "pt_BR", "zh_Hans_CN", "de"]
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_LANGUAGES=offered)
    for accepted, language in [
        ("zh-CN", "zh-Hans-CN"),
        ("zh", "zh-Hans-CN"),
        ("pt", "pt-BR"),
        ("pt-PT", "pt-BR"),
        ("de-CH-1996", "de"),
    ]:
        page = site.visitor().open("/login", headers={"Accept-Language": accepted})
        assert language_of(page) == language, accepted


def test_page_language_that_was_chosen_is_kept(site: Site) -> None:
    visitor = site.visitor()
    for path, language in [
        ("/reset?language=fr", "fr"),
        ("/login", "fr"),
        ("/nowhere", "fr"),
        ("/login?language=klingon", "fr"),
        ("/login?language=ar", "ar"),
    ]:
        assert language_of(visitor.open(path, headers=GERMAN)) == language
    assert 'dir="rtl"' in visitor.open("/login").text


def test_page_language_survives_hostile_input(site: Site) -> None:
    queries = ("?language=%00", "?language=de&language=fr", "?language=" + "x" * 5000, "?language[]=de")
    headers = ("de" * 3000, "de;q=1e400", "de;q=nan", "de;q=-1", ",".join(["xx"] * 3000))
    for query in queries:
        for accepted in headers:
            page = site.visitor().open(f"/login{query}", headers={"Accept-Language": accepted})
            assert page.status_code == 200
            assert language_of(page) in ("en", "de")
            assert "x" * 20 not in page.headers.get("Set-Cookie", "")


@pytest.mark.requirement("R44")
def test_language_cookie_is_set_by_pages_only_and_holds_the_language_alone(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL="https://id.example.com")
    cookie = site.visitor().open("/login?language=de").headers["Set-Cookie"]
    assert cookie.startswith("__Host-sparekey_language=de; ")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    for path in ("/style.css?language=de", "/healthz?language=de"):
        assert "Set-Cookie" not in site.visitor().open(path).headers
    assert site.visitor().open("/logo?language=de").headers["Cache-Control"] == "no-store"


def test_switch_keeps_the_query_of_the_page(site: Site) -> None:
    page = site.visitor().open("/login?next=/change").text
    assert 'href="?next=%2Fchange&amp;language=de" hreflang="de" lang="de" dir="ltr">Deutsch</a>' in page
    assert 'lang="en" dir="ltr" aria-current="true">English</a>' in page


def test_switch_is_absent_with_one_language(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_LANGUAGES=["de"], BABEL_DEFAULT_LOCALE="de")
    page = site.visitor().open("/login", headers={"Accept-Language": "en"})
    assert language_of(page) == "de"
    assert "hreflang" not in page.text


def test_switch_is_absent_only_where_following_it_would_lose_the_page(make_site: Any) -> None:
    """From an answer to a POST it leads to the form's page. A page that is shown once has none."""
    secrets = {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"}
    site: Site = make_site(SECURITY_UNIFIED_SIGNIN=True, SECURITY_TOTP_SECRETS=secrets)
    page = site.visitor().submit("/us-signin", "/us-signin/send-code", identity="alice")
    assert (page.status_code, 'href="/us-signin?language=de" hreflang="de"' in page.text) == (200, True)
    refused = site.visitor().submit("/login?next=/change", identity="alice", password="wrong")
    assert 'href="?next=%2Fchange&amp;language=de" hreflang="de"' in refused.text
    visitor, link = site.visitor(), site.new_link()
    assert "hreflang" in visitor.open(link, follow_redirects=True).text
    visitor.set_password(link)
    done = visitor.open("/reset-done")
    assert "Your password has been changed" in done.text
    assert "hreflang" not in done.text


def test_admin_translations_replace_texts_and_add_languages(make_site: Any, tmp_path: Path) -> None:
    write_translations(tmp_path, "en", {"Forgot your password?": "Locked out?"})
    write_translations(tmp_path, "de", {"That client doesn't exist.": "Unbekannt."})
    folder = write_translations(tmp_path, "nl", {"Sign in": "Inloggen"})
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_LANGUAGES=["en", "de", "nl"])
    assert "Locked out?" in site.visitor().open("/login").text
    page = site.visitor().open("/login", headers={"Accept-Language": "nl-BE"})
    assert language_of(page) == "nl"
    assert "<h1>Inloggen</h1>" in page.text
    assert 'hreflang="nl" lang="nl" dir="ltr" aria-current="true">Nederlands</a>' in page.text
    body = {"identity": "alice", "client": "unknown"}
    answer = site.visitor().post_json("/reset", json=body, headers=GERMAN)
    assert answer.json["response"]["errors"] == ["Unbekannt."]
    assert answer.json["response"]["error_code"] == "invalid_request"


def test_refused_password_is_explained_in_the_language_of_the_page(site: Site) -> None:
    link, visitor = site.new_link(), site.visitor()
    visitor.open("/login?language=de")
    page = visitor.submit(link, password="short", password_confirm="short")
    catalog = site.app.extensions["babel"].instance.domain_instance
    with site.app.test_request_context(headers=GERMAN):
        text = catalog.gettext(
            "Use at least %(length)s characters. Try a short phrase of several words.", length=15
        )
        assert (
            site.app.extensions["security"].i18n_domain.gettext("Invalid password") == "Ungültiges Passwort"
        )
    assert "Use at least" not in text
    assert text in page.text
    assert visitor.submit(link, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD).status_code == 302


def test_setting_in_a_refusal_is_escaped(make_site: Any) -> None:
    site: Site = make_site(MAIL_SERVER="", RECOVERY_SUPPORT_CONTACT="Help Desk <help@example.com>")
    page = site.visitor().submit("/login", "/reset", identity="alice")
    assert page.status_code == 503
    assert "Help Desk &lt;help@example.com&gt;" in page.text


@pytest.mark.parametrize(
    ("span", "texts"),
    [
        (timedelta(hours=1), {"en": "1 hour", "de": "1 Stunde", "ar": "ساعة"}),
        (timedelta(minutes=90), {"en": "1 hour and 30 minutes", "de": "1 Stunde und 30 Minuten"}),
        (timedelta(days=1, seconds=5), {"en": "1 day and 5 seconds", "fr": "1\xa0jour et 5\xa0secondes"}),
        (timedelta(0), {"en": "0 seconds", "es": "0 segundos"}),
    ],
)
def test_duration_is_written_out_in_each_language(span: timedelta, texts: dict[str, str]) -> None:
    with create_app(load_settings()).app_context():
        for language, text in texts.items():
            with i18n.use_language(language):
                assert i18n.duration(span) == text


@pytest.mark.parametrize(
    ("zone", "text"),
    [("UTC", "28. Februar 2026, 14:05:00 UTC"), ("Europe/Berlin", "28. Februar 2026, 15:05:00 MEZ")],
)
def test_moment_names_its_time_zone(zone: str, text: str) -> None:
    app = create_app(load_settings(BABEL_DEFAULT_TIMEZONE=zone))
    with app.app_context(), i18n.use_language("de"):
        assert i18n.moment(datetime(2026, 2, 28, 14, 5, tzinfo=UTC)) == text
        assert i18n.moment(datetime(2026, 2, 28, 14, 5)) == text


def test_account_language_is_that_of_its_mails(make_site: Any, tmp_path: Path) -> None:
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=write_translations(tmp_path, "es", {"Hello": "Hola"}))
    owner = site.visitor()
    assert owner.sign_in()
    assert owner.submit("/", "/language", language="es").location == "/"
    assert 'value="es" lang="es" aria-current="true">Español</button>' in owner.open("/").text
    site.new_link()  # a program requests it, in English
    assert '<html lang="es"' in html_of(site.mailbox.mails[-1])
    assert owner.submit("/", "/language", language="").location == "/"
    site.new_link()
    assert '<html lang="en"' in html_of(site.mailbox.mails[-1])


def test_account_language_must_be_offered(site: Site) -> None:
    owner = site.visitor()
    assert owner.post_json("/language", json={"language": "de"}).status_code == 401
    assert owner.sign_in()
    refused = {"language": ["That language isn't available."]}
    for language in ("nl", "../de", None, ["de"], {"a": 1}, 7):
        answer = owner.post_json("/language", json={"language": language})
        assert answer.json["response"]["field_errors"] == refused
    assert owner.post_json("/language", json={"language": "de"}).json["response"] == {}
    assert site.rows(User)[0]["language"] == "de"


def test_mail_preview_uses_the_given_language(site: Site, tmp_path: Path) -> None:
    page, runner = tmp_path / "mails.html", site.app.test_cli_runner()
    assert runner.invoke(mail.mail, ["preview", "--output", str(page), "--language", "de"]).exit_code == 0
    assert "lang=&#34;de&#34;" in page.read_text()
    refused = runner.invoke(mail.mail, ["preview", "--output", str(page), "--language", "nl"])
    assert refused.exit_code == 1
    assert "RECOVERY_LANGUAGES has no 'nl'; there are en, de, fr, es, ar" in refused.output


def test_rendered_message_has_no_language(site: Site) -> None:
    """A worker of the version before could not send it."""
    with site.app.app_context():
        outbox.enqueue(outbox.RENDERED, recipient="alice@example.com", subject="A", text="B", html="")
        db.session.commit()
        message = db.session.scalars(select(OutboxMessage)).one()
        assert message.content.keys() == {"recipient", "subject", "text", "html"}
