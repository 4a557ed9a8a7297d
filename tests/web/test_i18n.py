"""Languages of pages and mails: which one is used, the switch, and the format of times."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.commands import run
from support.features import CODE_SIGN_IN
from support.site import Site, load_settings
from support.translations import language_of, write_translations

from app import create_app
from app.accounts.models import User
from app.web import i18n

GERMAN = {"Accept-Language": "de"}


def test_page_language_is_the_first_accepted_one_that_is_offered(make_site: Any, tmp_path: Path) -> None:
    """Browsers omit scripts, and a variant of another country will do."""
    for language in ("pt_BR", "zh_Hans_CN"):
        folder = write_translations(tmp_path / "words", language, {"Sign in": language})
    offered = ["en", "pt_BR", "zh_Hans_CN", "de", "fr"]
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_LANGUAGES=offered)
    for accepted, language in {
        "de-AT, en;q=0.5": "de", "nl, fr-CA;q=0.8, en;q=0.5": "fr", "nl": "en", "": "en", "*": "en", "en;q=\xff, \x7f;;;": "en",
        "zh-CN": "zh-Hans-CN", "zh": "zh-Hans-CN", "pt": "pt-BR", "pt-PT": "pt-BR", "de-CH-1996": "de",
    }.items():  # fmt: skip
        page = site.visitor().open("/login", headers={"Accept-Language": accepted})
        assert language_of(page) == language, accepted


def test_page_language_that_was_chosen_is_kept(site: Site) -> None:
    visitor = site.visitor()
    unknown = ("klingon", "%00", "x" * 5000)
    in_french = ("/reset?language=fr", "/login", "/nowhere", *(f"/login?language={one}" for one in unknown))
    for path, language in (*((path, "fr") for path in in_french), ("/login?language=ar&language=de", "ar")):
        assert language_of(visitor.open(path, headers=GERMAN)) == language
    assert 'dir="rtl"' in visitor.open("/login").text
    for path in ("/style.css?language=de", "/healthz?language=de"):
        assert "Set-Cookie" not in visitor.open(path).headers


def test_switch_keeps_the_query_and_is_absent_where_following_it_would_lose_the_page(make_site: Any) -> None:
    """From an answer to a POST it leads to the form's page. A page that is shown once has none."""
    site: Site = make_site(**CODE_SIGN_IN)
    visitor, link = site.visitor(), site.new_link()
    page = visitor.open("/login?next=/change").text
    german = 'href="?next=%2Fchange&amp;language=de" hreflang="de"'
    assert f'{german} lang="de" dir="ltr">Deutsch</a>' in page
    assert 'lang="en" dir="ltr" aria-current="true">English</a>' in page
    refused = site.visitor().submit("/login?next=/change", identity="alice", password="wrong")
    assert german in refused.text
    page = site.visitor().submit("/us-signin", "/us-signin/send-code", identity="alice").text
    assert 'href="/us-signin?language=de" hreflang="de"' in page
    assert "hreflang" in visitor.open(link, follow_redirects=True).text
    visitor.set_password(link)
    done = visitor.open("/reset-done").text
    assert "Your password has been changed" in done
    assert "hreflang" not in done
    one: Site = make_site(RECOVERY_LANGUAGES=["de"], BABEL_DEFAULT_LOCALE="de")
    page = one.visitor().open("/login", headers={"Accept-Language": "en"})
    assert (language_of(page), "hreflang" in page.text) == ("de", False)


def test_admin_translations_replace_texts_and_add_languages(make_site: Any, tmp_path: Path) -> None:
    write_translations(tmp_path, "en", {"Forgot your password?": "Locked out?"})
    write_translations(tmp_path, "de", {"That client doesn't exist.": "Unbekannt."})
    folder = write_translations(tmp_path, "nl", {"Sign in": "Inloggen"})
    site: Site = make_site(RECOVERY_TRANSLATION_DIR=folder, RECOVERY_LANGUAGES=["en", "de", "nl"])
    assert "Locked out?" in site.visitor().open("/login").text
    page = site.visitor().open("/login", headers={"Accept-Language": "nl-BE"})
    assert "<h1>Inloggen</h1>" in page.text
    assert 'hreflang="nl" lang="nl" dir="ltr" aria-current="true">Nederlands</a>' in page.text
    body = {"identity": "alice", "client": "unknown"}
    answer = site.visitor().post_json("/reset", json=body, headers=GERMAN)
    assert answer.json["response"]["errors"] == ["Unbekannt."]
    assert answer.json["response"]["error_code"] == "invalid_request"


def test_refused_password_is_explained_in_the_language_of_the_page(site: Site) -> None:
    visitor, link = site.visitor(), site.new_link()
    visitor.open("/login?language=de")
    page = visitor.submit(link, password="short", password_confirm="short")
    assert "Verwenden Sie mindestens 15 Zeichen" in page.text


@pytest.mark.parametrize(("zone", "time"), [("UTC", "14:05:00 UTC"), ("Europe/Berlin", "15:05:00 MEZ")])
def test_moment_names_its_time_zone(zone: str, time: str) -> None:
    app = create_app(load_settings(BABEL_DEFAULT_TIMEZONE=zone))
    with app.app_context(), i18n.use_language("de"):
        for moment in (datetime(2026, 2, 28, 14, 5, tzinfo=UTC), datetime(2026, 2, 28, 14, 5)):
            assert i18n.moment(moment) == f"28. Februar 2026, {time}"


def test_account_language_is_chosen_among_those_that_are_offered(site: Site) -> None:
    owner = site.visitor()
    assert owner.post_json("/language", json={"language": "de"}).status_code == 401
    assert owner.sign_in()
    for language in ("nl", "../de", None, ["de"], {"a": 1}, 7):
        answer = owner.post_json("/language", json={"language": language})
        refused = {"language": ["That language isn't available."]}
        assert answer.json["response"]["field_errors"] == refused, language
    assert owner.post_json("/language", json={"language": "de"}).json["response"] == {}
    assert site.rows(User)[0]["language"] == "de"
    assert owner.submit("/", "/language", language="es").location == "/"
    assert 'value="es" lang="es" aria-current="true">Español</button>' in owner.open("/").text
    assert owner.submit("/", "/language", language="").location == "/"
    assert site.rows(User)[0]["language"] is None


def test_mail_preview_uses_the_given_language(site: Site, tmp_path: Path) -> None:
    preview = ("mail", "preview", "--output", str(tmp_path / "mails.html"), "--language")
    run(site, *preview, "de")
    assert "lang=&#34;de&#34;" in (tmp_path / "mails.html").read_text()
    refused = run(site, *preview, "nl", fails=True).output
    assert "RECOVERY_LANGUAGES has no 'nl'; there are en, de, fr, es, ar" in refused
