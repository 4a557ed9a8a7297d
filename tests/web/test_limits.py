"""Floods are refused, known and unknown alike; nobody is shut out by them; Redis may come and go."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from limits import parse
from support import servers
from support.site import (
    BOTH,
    NEW_PASSWORD,
    OLD_PASSWORD,
    SECRETS,
    Site,
    Visitor,
    at_work,
    load_settings,
    wait_for,
)
from werkzeug.test import TestResponse

from app.accounts import limits
from app.db.engine import db
from app.pages import health
from app.recovery.link import ResetLink
from app.settings.problems import SettingsError
from app.web import rate_limits

FEW = "5 per hour"
MANY = "1000 per hour"


@pytest.fixture
def limited(make_site: Any) -> Any:
    """A site with limits: many of everything but what the test is about."""

    def make(**overrides: Any) -> Site:
        kinds = ("SOURCE", "IDENTITY", "LINK", "BAD_LINKS")
        rates = {f"RECOVERY_LIMIT_{kind}": MANY for kind in kinds}
        site: Site = make_site(**{"RATELIMIT_ENABLED": True, **rates, **overrides})
        return site

    return make


def post(visitor: Visitor, url: str, address: str = "192.0.2.1", **options: Any) -> TestResponse:
    return visitor.post_json(url, environ_overrides={"REMOTE_ADDR": address}, **options)


def ask(site: Site, identity: str, address: str = "192.0.2.1", **options: Any) -> int:
    return post(site.visitor(), "/reset", address, json={"identity": identity}, **options).status_code


def guess(
    visitor: Visitor, identity: str = "alice", address: str = "192.0.2.1", password: str = "wrong"
) -> int:
    return post(visitor, "/login", address, json={"identity": identity, "password": password}).status_code


# --- by source --------------------------------------------------------------------------------------


@pytest.mark.requirement("R56")
def test_ten_thousand_addresses_from_one_source_are_cut_off_and_others_are_served(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_SOURCE=FEW)
    answers = [ask(site, f"user{number}@example.com") for number in range(20)]
    assert answers == [200] * 5 + [429] * 15
    assert len(site.messages()) == 5
    assert ask(site, "alice", "192.0.2.2") == 200


@pytest.mark.parametrize(
    ("addresses", "counted_together"),
    [
        ([f"2001:db8:1:2::{n:x}" for n in range(1, 7)], True),
        ([f"2001:db8:1:{n:x}::1" for n in range(1, 7)], False),
        ([f"192.0.2.{n}" for n in range(1, 7)], False),
        (["192.0.2.1", "::ffff:192.0.2.1"] * 3, True),
    ],
)
@pytest.mark.requirement("R56")
def test_a_source_is_an_address_or_a_64(limited: Any, addresses: list[str], counted_together: bool) -> None:
    site = limited(RECOVERY_LIMIT_SOURCE=FEW)
    answers = [ask(site, f"user{n}", address) for n, address in enumerate(addresses)]
    assert (answers[-1] == 429) is counted_together


@pytest.mark.parametrize("proxies", [0, 1])
@pytest.mark.requirement("R54", "R56")
def test_forged_headers_make_no_other_source(limited: Any, proxies: int) -> None:
    site = limited(RECOVERY_LIMIT_SOURCE=FEW, RECOVERY_TRUSTED_PROXIES=proxies)

    def forged(n: int) -> dict[str, str]:
        last = ", 192.0.2.1" if proxies else ""  # what the proxy itself has added
        fake = f"198.51.100.{n}"
        return {
            "X-Forwarded-For": f"{fake}{last}",
            "X-Real-IP": fake,
            "Forwarded": f"for={fake}",
            "Client-IP": fake,
        }

    answers = [ask(site, f"user{n}", headers=forged(n)) for n in range(7)]
    assert answers == [200] * 5 + [429] * 2


@pytest.mark.requirement("R56")
def test_the_limits_can_not_be_walked_around_in_parallel(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_SOURCE=FEW)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: ask(site, f"user{n}"), range(24)))
    assert answers.count(200) == 5


# --- by identity ------------------------------------------------------------------------------------

SPELLINGS = [
    "alice@example.com",
    "ALICE@example.com",
    " Alice@Example.Com ",
    "alice@EXAMPLE.com",
    "aLiCe@example.com",
]


@pytest.mark.requirement("R55", "R56")
def test_spelling_and_format_make_no_other_identity_known_or_unknown(limited: Any) -> None:
    seen = []
    for name in ("alice", "absent"):
        site = limited(RECOVERY_LIMIT_IDENTITY=FEW)
        answers: list[Any] = []
        for number, spelling in enumerate([*SPELLINGS, *SPELLINGS]):
            identity, address = spelling.lower().replace("alice", name), f"198.51.100.{number}"
            if number % 2:
                visitor = site.visitor()
                form = {"identity": identity, "csrf_token": csrf_of(visitor)}
                answer = post(visitor, "/reset", address, data=form)
            else:
                answer = post(site.visitor(), "/reset", address, json={"identity": identity})
            answers.append((answer.status_code, "Retry-After" in answer.headers))
        seen.append(answers)
    assert seen[0] == seen[1]
    assert [status for status, _ in seen[0]] == [200, 303] * 2 + [200] + [429] * 5
    assert seen[0][-1] == (429, True)


def csrf_of(visitor: Visitor) -> str:
    return visitor.open("/reset").text.split('name="csrf_token"')[1].split('value="')[1].split('"')[0]


@pytest.mark.requirement("R1", "R56")
def test_guessing_passwords_is_slowed_down_alike_from_many_sources(limited: Any) -> None:
    for identity in ("alice", "nobody", "inactive@example.com"):
        site = limited(RECOVERY_LIMIT_IDENTITY=FEW)
        answers = [guess(site.visitor(), identity, f"198.51.100.{n}") for n in range(7)]
        assert answers == [400] * 5 + [429] * 2, identity


@pytest.mark.requirement("R58")
def test_the_owner_signs_in_where_she_has_before_whatever_others_guess(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_IDENTITY=FEW)
    alice = site.visitor()
    assert alice.sign_in()
    alice.submit("/logout", "/logout", csrf_token=csrf_of(alice))
    for number in range(8):
        guess(site.visitor(), "alice", f"198.51.100.{number}")
    assert (
        guess(site.visitor(), "alice", "192.0.2.9", OLD_PASSWORD) == 429
    )  # the right one, but from anywhere
    assert guess(alice, "alice", "192.0.2.2", OLD_PASSWORD) == 200
    thief = site.visitor()
    thief.client.set_cookie("sparekey_known", "made.up", domain="127.0.0.1")
    assert guess(thief, "alice", "192.0.2.3") == 429
    assert [guess(alice, "bob", "192.0.2.4") for _ in range(7)][-1] == 429  # known for one account alone


@pytest.mark.requirement("R38")
def test_a_reset_ends_what_wrong_guesses_have_done(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_IDENTITY=FEW)
    for identity in ("alice", "alice@example.com"):
        for number in range(8):
            guess(site.visitor(), identity, f"198.51.100.{number}")
        assert guess(site.visitor(), identity, password=OLD_PASSWORD) == 429
    site.visitor().post_json(site.new_link("+14155550123"), json={"password": NEW_PASSWORD})
    for identity in ("alice", "alice@example.com"):
        assert guess(site.visitor(), identity, password=NEW_PASSWORD) == 200


@pytest.mark.requirement("R58")
def test_whoever_exhausts_every_limit_ends_no_link_of_the_owner(limited: Any) -> None:
    site = limited(**{f"RECOVERY_LIMIT_{kind}": FEW for kind in ("IDENTITY", "LINK", "BAD_LINKS", "SOURCE")})
    link = site.new_link()
    for number in range(8):
        ask(site, "alice@example.com", f"198.51.100.{number}")
        guess(site.visitor(), "alice", f"198.51.100.{number}")
        post(site.visitor(), "/reset/" + "x" * 43, "198.51.100.1", json={"password": NEW_PASSWORD})
    assert ask(site, "alice@example.com", "198.51.100.99") == 429
    assert post(site.visitor(), "/reset/" + "x" * 43, "198.51.100.1", json={}).status_code == 429
    assert post(site.visitor(), link, "192.0.2.2", json={"password": NEW_PASSWORD}).status_code == 200
    assert site.password_works(NEW_PASSWORD)


def test_a_request_that_makes_no_sense_does_not_switch_redis_off(limited: Any, redis: servers.Redis) -> None:
    """Whatever escapes where a limit's key is made passes for a storage that failed."""
    sites = [limited(RATELIMIT_STORAGE_URI=redis.url, RECOVERY_LIMIT_IDENTITY=FEW) for _ in range(2)]
    for site in sites:
        site.visitor().post_json("/login", data="", content_type="application/json")
        site.visitor().post_json("/reset", data="{", content_type="application/json")
    assert [guess(sites[n % 2].visitor()) for n in range(8)] == [400] * 5 + [429] * 3


def test_a_browser_is_known_for_several_accounts_and_after_a_new_key(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_IDENTITY=FEW)
    family = site.visitor()
    for name in ("alice", "bob"):
        family.sign_in(name)
        family.submit("/logout", "/logout", csrf_token=csrf_of(family))
    with site.app.app_context():
        uri = str(db.engine.url)
    old = SECRETS["FLASK_SECRET_KEY"]
    key = {"SECRET_KEY": "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5", "SECRET_KEY_FALLBACKS": [old]}
    rotated = limited(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_LIMIT_IDENTITY=FEW, **key)
    for name in ("alice", "bob"):
        there = rotated.visitor()
        there.client._cookies.update(family.client._cookies)
        for number in range(6):
            guess(rotated.visitor(), name, f"198.51.100.{number}")
        assert guess(rotated.visitor(), name, password=OLD_PASSWORD) == 429
        assert guess(there, name, password=OLD_PASSWORD) == 200


def test_nobody_collects_counts_of_their_own(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_IDENTITY="3 per hour")
    once_in = [site.visitor() for _ in range(3)]
    for visitor in once_in:
        visitor.sign_in()
    cookies = {visitor.client.get_cookie("sparekey_known", domain="127.0.0.1").value for visitor in once_in}
    with site.app.app_context():
        browsers = {limits._signer().loads(cookie)[0] for cookie in cookies}
    assert browsers <= set(range(limits.BROWSERS))


def test_a_slip_at_the_known_browser_is_forgiven_by_a_reset(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_IDENTITY=FEW)
    alice = site.visitor()
    alice.sign_in()
    assert [guess(alice) for _ in range(7)][-1] == 429
    alice.post_json(site.new_link("bob") and site.new_link("+14155550123"), json={"password": NEW_PASSWORD})
    assert guess(alice, password=NEW_PASSWORD) == 200


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("path", ["/change", "/verify", "/change-email"])
def test_whoever_is_in_can_not_guess_on_from_many_sources(limited: Any, path: str) -> None:
    site = limited(RECOVERY_LIMIT_IDENTITY=FEW, SECURITY_CHANGE_EMAIL=True)
    thief = site.visitor()
    thief.sign_in()
    body = {"password": "a guess", "email": "victim@example.org"}
    answers = [post(thief, path, f"198.51.100.{n}", json=body).status_code for n in range(7)]
    assert answers[-1] == 429
    other = site.visitor()
    other.sign_in("bob")
    assert post(other, path, "192.0.2.5", json=body).status_code != 429


# --- by link ----------------------------------------------------------------------------------------


@pytest.mark.requirement("R57")
def test_bad_links_from_one_source_are_cut_off_opened_or_posted(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_BAD_LINKS=FEW)
    link, here = site.new_link(), {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}
    answers = [site.visitor().open(f"/reset/{n:043}", **here).status_code for n in range(7)]
    assert answers == [400] * 5 + [429] * 2
    assert site.visitor().open(link, **here).status_code == 303  # whatever a page has made a browser open
    assert (
        site.visitor().post_json(f"/reset/{1:043}", json={"password": NEW_PASSWORD}, **here).status_code
        == 429
    )
    assert site.visitor().open(f"/not-me/{1:043}", **here).status_code == 429
    answer = site.visitor().open(f"/reset/{1:043}", **here)
    assert "Too many tries" in answer.text
    assert 1 <= int(answer.headers["Retry-After"]) <= 3601


@pytest.mark.requirement("R25")
def test_good_links_can_be_opened_any_number_of_times(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_BAD_LINKS=FEW, RECOVERY_LIMIT_LINK=FEW, RECOVERY_LIMIT_SOURCE=FEW)
    link = site.new_link()
    assert {site.visitor().open(link).status_code for _ in range(20)} == {303}


@pytest.mark.requirement("R57")
def test_passwords_tried_with_one_link_are_counted_by_that_link(limited: Any) -> None:
    site = limited(RECOVERY_LIMIT_LINK=FEW)
    link = site.new_link()
    body = {"password": "too short"}

    def handle_or_token(number: int) -> tuple[Visitor, str]:  # each opening makes a new handle
        visitor = site.visitor()
        return visitor, visitor.open(link).location if number % 2 else link

    answers = []
    for number in range(7):
        visitor, url = handle_or_token(number)
        answers.append(post(visitor, url, f"192.0.2.{number}", json=body).status_code)
    assert answers == [400] * 5 + [429] * 2
    other = site.new_link("bob")
    assert post(site.visitor(), other, json={"password": NEW_PASSWORD}).status_code == 200


# --- mail to one account ----------------------------------------------------------------------------


@pytest.mark.requirement("R55")
def test_fifty_requests_are_a_few_mails_and_the_same_answers_as_for_nobody(make_site: Any) -> None:
    answers = {}
    for identity in ("alice", "nobody"):
        site: Site = make_site(RATELIMIT_ENABLED=True, RECOVERY_MAIL_DAILY_CAP=3)
        answers[identity] = []
        for number in range(50):
            answers[identity].append(ask(site, identity, f"198.51.100.{number}"))
            site.work()
    assert answers["alice"] == answers["nobody"]
    assert set(answers["alice"]) == {200, 429}
    assert len(site.mailbox.mails) == 3  # to alice


@BOTH
@pytest.mark.requirement("R56")
def test_four_workers_and_a_restart_keep_the_cap(make_site: Any, database: Any) -> None:
    uri = database()
    sites = [make_site(SQLALCHEMY_DATABASE_URI=uri, RECOVERY_MAIL_DAILY_CAP=2) for _ in range(4)]
    spellings = [*SPELLINGS, "alice", "+1 415 555 0123", "(415) 555-0123"]

    def ask_somewhere(number: int) -> int:
        return ask(sites[number % 4], spellings[number % len(spellings)], f"198.51.100.{number}")

    for half in (range(40), range(40, 80)):  # between them every worker is started anew
        with ExitStack() as workers:
            for site in sites:
                workers.enter_context(at_work(site))
            with ThreadPoolExecutor(4) as threads:
                assert set(threads.map(ask_somewhere, half)) == {200}
            wait_for(lambda: all(message["state"] != "waiting" for message in sites[0].messages()), 30)
    assert sites[0].mailbox.envelopes == [["alice@example.com"]] * 2


# --- mail in all ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.requirement("R1", "R56")
def test_over_the_budget_of_all_mail_waits_for_everybody_alike(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_HOURLY_MAX=1)
    site.new_link("alice")
    site.ask("bob")
    site.ask("nobody")
    visitor = site.visitor()
    visitor.set_password(site.last_link())
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ["alice@example.com"] * 2  # the notice is not held
    waiting = [message for message in site.messages() if message["state"] == "waiting"]
    assert [(message["attempts"], message["user_id"]) for message in waiting] == [(0, None)] * 2
    with site.app.app_context():
        assert health.BUDGET_SPENT in health.check().problems
    assert site.work() == 0  # and nobody looks again at once
    earlier = site.links()[0]["issued_at"].replace(year=2020)
    site.change(ResetLink, issued_at=earlier)
    site.work()
    assert site.mailbox.mails[-1]["To"] == "bob@example.com"


# --- memory -----------------------------------------------------------------------------------------


def test_what_is_counted_in_memory_ends_and_takes_no_room_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("app.web.rate_limits.time.time", lambda: now[0])
    memory = rate_limits.RateLimiter(enabled=True)
    limit = parse("2 per minute")
    assert [memory.hit(limit, "a") for _ in range(3)] == [True, True, False]
    assert memory.get_window_stats(limit, "a") == (1060.0, 0)
    now[0] += 60
    assert memory.hit(limit, "a")
    for number in range(5 * rate_limits.SWEEP_MIN):
        now[0] += 60 / rate_limits.SWEEP_MIN  # as many as that are counted at any time
        memory.hit(limit, str(number))
        assert len(memory._windows) <= 2 * rate_limits.SWEEP_MIN


# --- Redis ------------------------------------------------------------------------------------------


def asked_until_refused(site: Site, identity: str) -> int:
    return [ask(site, identity) for _ in range(12)].count(200)


@pytest.mark.requirement("R56")
def test_several_processes_count_together_in_redis(limited: Any, redis: servers.Redis) -> None:
    sites = [limited(RATELIMIT_STORAGE_URI=redis.url, RECOVERY_LIMIT_IDENTITY=FEW) for _ in range(2)]
    answers = [ask(sites[n % 2], "alice") for n in range(8)]
    assert answers == [200] * 5 + [429] * 3
    again = limited(RATELIMIT_STORAGE_URI=redis.url, RECOVERY_LIMIT_IDENTITY=FEW)
    assert ask(again, "alice") == 429  # a restart forgets nothing
    assert b"alice" not in redis.everything()


@pytest.mark.parametrize("how", ["gone", "hanging"])
@pytest.mark.requirement("R56")
def test_without_redis_the_service_goes_on_and_counts_for_itself(
    limited: Any, redis: servers.Redis, how: str
) -> None:
    site = limited(RATELIMIT_STORAGE_URI=redis.url, RECOVERY_LIMIT_IDENTITY=FEW)
    assert ask(site, "bob") == 200
    redis.stop() if how == "gone" else redis.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    assert asked_until_refused(site, "alice") == 5
    assert time.monotonic() - start < 3
    body = {"identity": "bob", "password": OLD_PASSWORD}
    assert post(site.visitor(), "/login", json=body).status_code == 200
    redis.start() if how == "gone" else redis.process.send_signal(signal.SIGCONT)


@pytest.mark.requirement("R56")
def test_a_start_without_redis_is_a_start(limited: Any) -> None:
    nowhere = f"redis://127.0.0.1:{servers.free_port()}/0"
    site = limited(RATELIMIT_STORAGE_URI=nowhere, RECOVERY_LIMIT_IDENTITY=FEW)
    assert asked_until_refused(site, "alice") == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RATELIMIT_STORAGE_URI", "localhost:6379"),
        ("RATELIMIT_STORAGE_URI", "redis://127.0.0.1:abc/0"),
        ("RECOVERY_LIMIT_SOURCE", "0 per minute"),
        ("RECOVERY_LIMIT_SOURCE", "a few"),
        ("RECOVERY_LIMIT_IDENTITY", ""),
        ("RECOVERY_MAIL_HOURLY_MAX", 0),
    ],
)
@pytest.mark.requirement("R65")
def test_a_limit_that_makes_no_sense_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        load_settings(**{name: value})
