"""`manage.py limits` shows and clears the counts of rate limits in Redis."""

import json
from typing import Any

import pytest
from support.commands import run
from support.servers import Redis, free_port
from support.site import OLD_PASSWORD, Site


@pytest.fixture
def limited(make_site: Any, redis: Redis) -> Any:
    return lambda **settings: make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=redis.url, **settings)


def counts(site: Site, who: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run(site, "limits", "show", who, "--format", "json").stdout)
    return rows


@pytest.mark.parametrize("command", ["limits show", "limits clear", "users show"])
def test_limits_that_cannot_be_read(make_site: Any, command: str) -> None:
    words, fails = (*command.split(), "alice"), command != "users show"
    assert "in its own memory" in run(make_site(), *words, fails=fails).output
    uri = f"redis://127.0.0.1:{free_port()}/0"
    site: Site = make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=uri)
    assert "Redis does not answer" in run(site, *words, fails=fails).output


def test_limits_of_identity_and_source_are_shown_and_cleared(limited: Any) -> None:
    site: Site = limited(RECOVERY_LIMIT_IDENTITY="3 per hour", RECOVERY_LIMIT_SOURCE="1000 per hour")
    assert run(site, "limits", "show", "alice").output == "nothing has been counted\n"
    for _ in range(4):
        site.visitor().post_json("/login", json={"identity": "alice", "password": "guess"})
    [row] = counts(site, "alice")
    assert (row["what"], row["used"], row["is_over"]) == ("signing in", 3, True)
    assert 0 < row["ends_in_seconds"] <= 3600
    assert "are refused right now, after too many attempts" in run(site, "users", "show", "alice").output
    assert not site.password_works(OLD_PASSWORD)
    assert run(site, "limits", "clear", "alice").output == "1 cleared\n"
    assert site.password_works(OLD_PASSWORD)
    assert [row["what"] for row in counts(site, "127.0.0.1")] == ["posts"]
    run(site, "limits", "clear", "127.0.0.1")
    assert counts(site, "127.0.0.1") == counts(site, "nobody@example.com") == []


def test_limits_of_account_are_shown_and_cleared(limited: Any) -> None:
    totp = {"SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"}}
    site: Site = limited(SECURITY_UNIFIED_SIGNIN=True, **totp)
    alice = site.visitor()
    assert alice.sign_in()
    alice.post_json("/verify", json={"password": "a guess"})
    for identity in ("alice", "1"):  # the second is no identity, and no id of an account
        site.visitor().post_json("/us-signin", json={"identity": identity, "passcode": "123456"})
    used = {row["what"]: row["used"] for row in counts(site, "alice")}
    assert used.items() >= {"account": 1, "codes": 1}.items()
    run(site, "limits", "clear", "#1")
    assert not used.keys() & {row["what"] for row in counts(site, "alice")}


def test_limits_of_an_ipv6_address_are_those_of_its_networks(limited: Any) -> None:
    site: Site = limited(RECOVERY_LIMIT_SOURCE="2 per hour", RECOVERY_LIMIT_BAD_LINKS="9 per hour")

    def ask(address: str) -> int:
        source, body = {"REMOTE_ADDR": address}, {"identity": "nobody"}
        return site.visitor().post_json("/reset", json=body, environ_overrides=source).status_code

    assert [ask(f"2001:db8:1:{n:x}::1") for n in range(9)] == [200] * 8 + [429]
    site.visitor().open("/reset/" + "x" * 43, environ_overrides={"REMOTE_ADDR": "2001:db8:1:1::9"})
    rows = counts(site, "2001:db8:1:1::2")
    assert [(row["what"], row["network"], row["used"], row["is_over"]) for row in rows] == [
        ("posts", "2001:db8:1:1::/64", 1, False),
        ("posts", "2001:db8:1::/56", 8, True),
        ("posts", "2001:db8:1::/48", 8, False),
        ("bad links", "2001:db8:1:1::/64", 1, False),
        ("bad links", "2001:db8:1::/56", 1, False),
        ("bad links", "2001:db8:1::/48", 1, False),
    ]
    assert run(site, "limits", "clear", "2001:db8:1:1::2").output == "6 cleared\n"
    assert counts(site, "2001:db8:1:1::2") == []
    assert ask("2001:db8:1:9::1") == 200
