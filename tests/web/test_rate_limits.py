"""Rate limits by source, identity, account and link: floods are refused, and lock no owner out."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from limits import parse
from support import factors, servers
from support.features import (
    ALL_FEATURES,
    CODE_SIGN_IN,
    REGISTRATION,
    confirm_addresses,
    new_secret,
    set_up_factor,
)
from support.site import NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, Visitor, csrf_token
from werkzeug.test import TestResponse

from app.accounts.models import User
from app.web import rate_limits

LIMITS = ("SOURCE", "IDENTITY", "LINK", "BAD_LINKS")
BAD_LINK = "/reset/" + "x" * 43
BY_ACCOUNT = ["/change", "/verify", "/change-email", "/second-address", "/mf-recovery-codes", "/tf-select"]
BY_ACCOUNT += ["/wan-register/x"]


@pytest.fixture
def limited(make_site: Any) -> Any:
    """Makes sites on which the named limits are low and the others high."""

    def make(*low: str, **overrides: Any) -> Site:
        rates = {f"RECOVERY_LIMIT_{kind}": f"{5 if kind in low else 1000} per hour" for kind in LIMITS}
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


def flood(site: Site, identity: str = "alice", count: int = 8) -> list[int]:
    """Guess from as many sources."""
    return [guess(site.visitor(), identity, f"198.51.100.{number}") for number in range(count)]


def sign_out(visitor: Visitor) -> None:
    visitor.submit("/logout", "/logout", csrf_token=csrf_token(visitor.open("/reset")))


# --- sources ---


@pytest.mark.requirement("R55", "R56")
def test_default_limits_refuse_a_parallel_flood_alike_for_every_identity(make_site: Any) -> None:
    site: Site = make_site(RATELIMIT_ENABLED=True)
    for identity, address in (("alice", "192.0.2.1"), ("nobody", "192.0.2.2")):
        post_one = partial(post, url="/reset", address=address, json={"identity": identity})
        with ThreadPoolExecutor(8) as threads:
            answers = [*threads.map(post_one, [site.visitor() for _ in range(40)])]
        answers.sort(key=lambda answer: answer.status_code)
        assert [answer.status_code for answer in answers] == [200] * 30 + [429] * 10
        assert answers[-1].json["response"]["error_code"] == "rate_limited"
        assert answers[-1].headers["Retry-After"] == "60"
    site.work()
    assert site.mailbox.envelopes == [["alice@example.com"]]


@pytest.mark.requirement("R56")
def test_source_is_an_ipv4_address_or_a_64_of_ipv6(limited: Any) -> None:
    """Wider networks of IPv6 have growing allowances: a /56 four times and a /48 16 times that of a /64."""
    site = limited("SOURCE")

    def accepted(*addresses: str) -> int:
        return [ask(site, f"user{n}", address) for n, address in enumerate(addresses)].count(200)

    assert accepted(*(f"192.0.2.{n}" for n in range(2, 8))) == 6
    assert accepted(*["192.0.2.1", "::ffff:192.0.2.1"] * 3) == 5
    assert accepted(*(f"2001:db8:3::{n:x}" for n in range(24))) == 5  # a /64, which uses up no other's
    assert accepted(*(f"2001:db8:3:{n:x}::1" for n in range(1, 20))) == 15
    assert accepted(*(f"2001:db8:1:{n:x}::1" for n in range(24))) == 20  # a /56
    assert accepted(*(f"2001:db8:1:{n:x}00::1" for n in range(1, 64))) == 60  # the rest of its /48
    assert accepted(*(f"2002:c000:201:{n:x}::1" for n in range(24))) == 20  # 6to4
    assert accepted("2001:db8:2::1") == 1


@pytest.mark.parametrize("proxies", [0, 1])
@pytest.mark.requirement("R54", "R56")
def test_source_limit_ignores_forged_headers(limited: Any, proxies: int) -> None:
    """A declared proxy puts the real address of each user behind those that the user has made up."""
    site, answers = limited("SOURCE", RECOVERY_TRUSTED_PROXIES=proxies), []
    for user in ("192.0.2.1", "192.0.2.2"):
        for fake in (f"198.51.100.{number}" for number in range(6)):
            others = {"X-Real-IP": fake, "Forwarded": f"for={fake}", "Client-IP": fake}
            headers = {"X-Forwarded-For": f"{fake}, {user}" if proxies else fake, **others}
            answers.append(ask(site, "alice", "192.0.2.9", headers=headers))
    assert answers == (([200] * 5 + [429]) * 2 if proxies else [200] * 5 + [429] * 7)


@pytest.mark.requirement("R1", "R56")
def test_refusal_gives_the_whole_period_as_number_and_in_words(
    limited: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of it would tell when others used up the limit."""
    now, rates = [1000.0], "5 per 90 minutes"
    monkeypatch.setattr("app.web.rate_limits.time.time", lambda: now[0])
    site = limited(RECOVERY_LIMIT_SOURCE=rates, RECOVERY_LIMIT_BAD_LINKS=rates)
    for visit in (
        lambda: site.visitor().post_json("/reset", json={}),
        lambda: site.visitor().submit("/reset", identity=""),
        lambda: site.visitor().open(BAD_LINK),
        lambda: site.visitor().open(BAD_LINK, headers={"Accept": "application/json"}),
    ):
        for _ in range(6):
            answer = visit()
            now[0] += 40
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5400")
        assert "Please try again in 1 hour and 30 minutes." in answer.text


# --- identities and accounts ---

SPELLINGS = ("{}@example.com", "{}@EXAMPLE.com", " {}@Example.Com ", "{}@example.COM", "{}@eXample.com")


@pytest.mark.requirement("R1", "R55", "R56")
def test_identity_limit_counts_spellings_and_formats_together_for_every_identity(limited: Any) -> None:
    site = limited("IDENTITY")
    for name in ("alice", "absent", "inactive"):
        answers = []
        for number, spelling in enumerate([*SPELLINGS, *SPELLINGS]):
            visitor, address = site.visitor(), f"198.51.100.{number}"
            fields = {"identity": spelling.format([name, name.upper()][number % 3 == 0]), "password": "wrong"}
            if number % 2:
                fields["csrf_token"] = csrf_token(visitor.open("/login"))
            answer = post(visitor, "/login", address, **{"data" if number % 2 else "json": fields})
            answers.append((answer.status_code, answer.headers.get("Retry-After")))
        verified = [(400, None), (200, None), (400, None), (200, None), (400, None)]
        assert answers == verified + [(429, "3600")] * 5, name


@pytest.mark.requirement("R1", "R55", "R58")
@pytest.mark.parametrize(
    ("path", "field", "settings"),
    [
        ("/reset", "identity", {}),
        ("/register", "email", REGISTRATION),
        ("/confirm", "identity", REGISTRATION),
        ("/us-signin/send-code", "identity", CODE_SIGN_IN),
    ],
)
def test_requests_of_others_for_the_same_identity_change_no_answer(
    limited: Any, path: str, field: str, settings: dict[str, Any]
) -> None:
    """A refusal would tell that somebody else asks for it, and keep its owner from asking."""
    site, body = limited("IDENTITY", **settings), {field: "alice@example.com"}
    answers = [post(site.visitor(), path, f"198.51.100.{n}", json=body).status_code for n in range(8)]
    assert answers == [200] * 8


@pytest.mark.requirement("R58")
def test_identity_limit_spares_the_owner_in_a_browser_that_has_signed_in_before(limited: Any) -> None:
    """For each account that has signed in there and for no other, and after a change of the key."""
    site = limited("IDENTITY")
    family = site.visitor()
    for name in ("alice", "bob"):
        assert family.sign_in(name)
        sign_out(family)
    uri, old = site.app.config["SQLALCHEMY_DATABASE_URI"], SECRETS["FLASK_SECRET_KEY"]
    key = {"SECRET_KEY": "a0B1c2D3e4F5g6H7i8J9k0L1m2N3o4P5", "SECRET_KEY_FALLBACKS": [old]}
    for later in (site, limited("IDENTITY", SQLALCHEMY_DATABASE_URI=uri, **key)):
        for name, status in (("alice", 200), ("bob", 200), ("inactive@example.com", 429)):
            same_browser, thief = later.visitor(), later.visitor()
            same_browser.client._cookies.update(family.client._cookies)
            thief.client.set_cookie("sparekey_known", "made.up", domain="127.0.0.1")
            flood(later, name)
            assert guess(thief, name, password=OLD_PASSWORD) == 429
            assert guess(same_browser, name, "192.0.2.2", OLD_PASSWORD) == status
    assert [guess(family, "alice", "192.0.2.4") for _ in range(7)][-1] == 429


@pytest.mark.requirement("R38")
def test_reset_clears_the_counts_of_guesses_everywhere(limited: Any) -> None:
    site: Site = limited("IDENTITY")
    known, identities = site.visitor(), ("alice", "alice@example.com")
    known.sign_in()
    assert [guess(known) for _ in range(7)][-1] == 429
    for identity in identities:
        flood(site, identity)
        assert guess(site.visitor(), identity, password=OLD_PASSWORD) == 429
    known.post_json(site.new_link("+14155550123"), json={"password": NEW_PASSWORD})
    assert guess(known, password=NEW_PASSWORD) == 200
    for identity in identities:
        assert guess(site.visitor(), identity, password=NEW_PASSWORD) == 200


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("path", BY_ACCOUNT)
def test_account_limit_refuses_guesses_of_a_signed_in_visitor_from_many_sources(
    limited: Any, path: str
) -> None:
    site = confirm_addresses(limited("IDENTITY", **{**ALL_FEATURES, **factors.FACTORS}))
    thief, other = site.visitor(), site.visitor()
    thief.sign_in()
    body = {"password": "a guess", "email": "victim@example.org"}
    answers = [post(thief, path, f"198.51.100.{n}", json=body).status_code for n in range(6)]
    assert answers.index(429) == 5
    other.sign_in("bob")
    assert post(other, path, "192.0.2.5", json=body).status_code != 429


def copy_remember_cookie(site: Site, owner: str, to: Visitor) -> None:
    visitor, name = site.visitor(), site.app.config["REMEMBER_COOKIE_NAME"]
    visitor.submit("/login", identity=owner, password=OLD_PASSWORD, remember="y")
    cookie: Any = visitor.client.get_cookie(name)
    to.client.set_cookie(name, cookie.value)


@pytest.mark.requirement("R56")
@pytest.mark.parametrize("has_ended", [False, True])
def test_account_limit_holds_beside_half_finished_sign_ins_of_the_thief(
    limited: Any, has_ended: bool
) -> None:
    """He has the owner's remember cookie, and accounts of his own with a second factor."""
    site = confirm_addresses(limited("IDENTITY", **{**ALL_FEATURES, **factors.FACTORS}))
    bob = {"tf_primary_method": "authenticator", "tf_totp_secret": new_secret(site)}
    site.change(User, User.username == "bob", **bob)
    thief, other = site.visitor(), site.visitor()
    assert guess(thief, "bob", password=OLD_PASSWORD) == 200
    if has_ended:
        site.change(User, User.username == "bob", fs_uniquifier="ended")
    visitors = [thief, other] * 3
    for visitor in (thief, other):
        copy_remember_cookie(site, "alice", visitor)
        assert visitor.is_signed_in()
    body = {"password": "a guess"}
    answers = [post(it, "/verify", f"192.0.2.{n}", json=body).status_code for n, it in enumerate(visitors)]
    assert answers.index(429) == 5


def test_account_limit_holds_beside_finished_sign_ins_of_the_thief(limited: Any) -> None:
    """He has the owner's password, and guesses her recovery codes where accounts of his own are signed in."""
    site = confirm_addresses(limited("IDENTITY", **{**ALL_FEATURES, **factors.FACTORS}))
    set_up_factor(site)
    thief, other = site.visitor(), site.visitor()
    for visitor in (thief, other):
        guess(visitor, password=OLD_PASSWORD)
    copy_remember_cookie(site, "bob", other)
    body, visitors = {"code": "a guess"}, [thief, other] * 3
    answers = [
        post(it, "/mf-recovery", f"192.0.2.{n}", json=body).status_code for n, it in enumerate(visitors)
    ]
    assert answers.index(429) == 5


# --- links ---


@pytest.mark.requirement("R57", "R58")
def test_bad_link_limit_refuses_invalid_links_of_one_source(limited: Any) -> None:
    site = limited("BAD_LINKS")
    link, source = site.new_link(), {"environ_overrides": {"REMOTE_ADDR": "192.0.2.7"}}
    answers = [site.visitor().open(f"/reset/{n:043}", **source) for n in range(7)]
    assert [answer.status_code for answer in answers] == [400] * 5 + [429] * 2
    assert "Too many attempts" in answers[-1].text
    body = {"password": NEW_PASSWORD}
    assert site.visitor().post_json(BAD_LINK, json=body, **source).status_code == 429
    assert site.visitor().open(f"/not-me/{1:043}", **source).status_code == 429
    # A page may have made the owner's browser open the others.
    assert site.visitor().open(link, **source).status_code == 303
    assert site.visitor().post_json(link, json=body, **source).status_code == 200
    sources = [{"REMOTE_ADDR": f"2001:db8:1:{n:x}::1"} for n in range(24)]  # of one /56
    answers = [site.visitor().open(BAD_LINK, environ_overrides=source) for source in sources]
    assert [answer.status_code for answer in answers] == [400] * 20 + [429] * 4


@pytest.mark.requirement("R25", "R57")
def test_link_limit_counts_passwords_by_link_and_no_openings(limited: Any) -> None:
    site = limited("LINK", "BAD_LINKS", "SOURCE")
    link, answers = site.new_link(), []
    assert {site.visitor().open(link).status_code for _ in range(20)} == {303}
    for number in range(7):
        visitor: Visitor = site.visitor()
        url = visitor.open(link).location if number % 2 else link  # each opening makes a new handle
        answers.append(post(visitor, url, f"192.0.2.{number}", json={"password": "too short"}).status_code)
    assert answers == [400] * 5 + [429] * 2
    other = site.new_link("bob")
    assert post(site.visitor(), other, json={"password": NEW_PASSWORD}).status_code == 200


# --- where counts are kept ---


def test_memory_limiter_ends_windows_and_frees_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10_000.0]
    monkeypatch.setattr("app.web.rate_limits.time.time", lambda: now[0])
    memory, limit = rate_limits.RateLimiter(enabled=True), parse("2 per minute")
    for passed in (0, 60, -3600, 3600):  # a clock that is set back closes no window for long
        now[0] += passed
        assert [memory.hit(limit, "a") for _ in range(3)] == [True, True, False], passed
    now[0] += 59
    assert not memory.hit(limit, "a")
    memory = rate_limits.RateLimiter(enabled=True)
    for number in range(5 * rate_limits.SWEEP_MIN):
        now[0] += 61 / rate_limits.SWEEP_MIN  # almost so many windows are open at any time
        memory.hit(limit, str(number))
        assert len(memory._windows) <= 2 * rate_limits.SWEEP_MIN


@pytest.mark.requirement("R56")
def test_redis_counts_are_shared_and_survive_a_restart(limited: Any, redis: servers.Redis) -> None:
    sites = [limited("IDENTITY", RATELIMIT_STORAGE_URI=redis.url) for _ in range(2)]
    for site in sites:  # an exception while a key is made would pass for a storage that failed
        site.visitor().post_json("/login", data="", content_type="application/json")
        site.visitor().post_json("/reset", data="{", content_type="application/json")
    assert [guess(sites[n % 2].visitor(), "alice") for n in range(8)] == [400] * 5 + [429] * 3
    assert guess(limited("IDENTITY", RATELIMIT_STORAGE_URI=redis.url).visitor(), "alice") == 429
    assert b"alice" not in redis.everything()


@pytest.mark.parametrize("outage", ["stopped", "hanging", "never started"])
@pytest.mark.requirement("R56")
def test_redis_outage_leaves_counts_in_memory(limited: Any, redis: servers.Redis, outage: str) -> None:
    if outage == "never started":
        redis.stop()
    site = limited("IDENTITY", RATELIMIT_STORAGE_URI=redis.url)
    assert ask(site, "bob") == 200
    if outage == "stopped":
        redis.stop()
    elif outage == "hanging":
        redis.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    assert flood(site) == [400] * 5 + [429] * 3
    assert time.monotonic() - start < 3
    assert guess(site.visitor(), "bob", password=OLD_PASSWORD) == 200
