"""`manage.py limits` shows and clears the counts of rate limits in Redis."""

import json
from typing import Any

import pytest
from support.commands import run
from support.servers import Redis, free_port
from support.site import OLD_PASSWORD, Site


@pytest.mark.parametrize("command", ["limits show", "limits clear", "users show"])
def test_limits_that_cannot_be_read(make_site: Any, command: str) -> None:
    words, fails = (*command.split(), "alice"), command != "users show"
    assert "in its own memory" in run(make_site(), *words, fails=fails).output
    uri = f"redis://127.0.0.1:{free_port()}/0"
    site: Site = make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=uri)
    assert "Redis does not answer" in run(site, *words, fails=fails).output


def test_limits_of_identity_and_source_are_shown_and_cleared(make_site: Any, redis: Redis) -> None:
    limits = {"RECOVERY_LIMIT_IDENTITY": "3 per hour", "RECOVERY_LIMIT_SOURCE": "1000 per hour"}
    site: Site = make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=redis.url, **limits)
    assert run(site, "limits", "show", "alice").output == "nothing has been counted\n"
    for _ in range(4):
        site.visitor().post_json("/login", json={"identity": "alice", "password": "guess"})
    rows = json.loads(run(site, "limits", "show", "alice", "--format", "json").stdout)
    assert [(row["what"], row["used"], row["is_over"]) for row in rows] == [("signing in", 3, True)]
    assert 0 < rows[0]["ends_in_seconds"] <= 3600
    assert "are refused right now, after too many attempts" in run(site, "users", "show", "alice").output
    assert not site.password_works(OLD_PASSWORD)
    assert run(site, "limits", "clear", "alice").output == "1 cleared\n"
    assert site.password_works(OLD_PASSWORD)
    assert run(site, "limits", "show", "127.0.0.1", "--format", "json").output.count('"posts"') == 1
    run(site, "limits", "clear", "127.0.0.1")
    for unknown in ("127.0.0.1", "nobody@example.com"):
        assert run(site, "limits", "show", unknown).output == "nothing has been counted\n"


def test_limits_of_account_are_shown_and_cleared(make_site: Any, redis: Redis) -> None:
    storage = {"RATELIMIT_ENABLED": True, "RATELIMIT_STORAGE_URI": redis.url}
    totp = {"SECURITY_TOTP_SECRETS": {"1": "uRk8Wq3nV5bXz1cYt7sLp0Mf"}}
    site: Site = make_site(SECURITY_UNIFIED_SIGNIN=True, **storage, **totp)
    alice = site.visitor()
    assert alice.sign_in()
    alice.post_json("/verify", json={"password": "a guess"})
    for identity in ("alice", "1"):  # the second is no identity, and no id of an account
        site.visitor().post_json("/us-signin", json={"identity": identity, "passcode": "123456"})

    def counts() -> dict[str, int]:
        rows = json.loads(run(site, "limits", "show", "alice", "--format", "json").stdout)
        return {row["what"]: row["used"] for row in rows if row["what"] in ("account", "codes")}

    assert counts() == {"account": 1, "codes": 1}
    run(site, "limits", "clear", "#1")
    assert counts() == {}


def test_limits_of_an_ipv6_address_are_those_of_its_networks(make_site: Any, redis: Redis) -> None:
    limits = {"RECOVERY_LIMIT_SOURCE": "2 per hour", "RECOVERY_LIMIT_BAD_LINKS": "9 per hour"}
    site: Site = make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=redis.url, **limits)

    def ask(address: str) -> int:
        source, body = {"REMOTE_ADDR": address}, {"identity": "nobody"}
        return site.visitor().post_json("/reset", json=body, environ_overrides=source).status_code

    assert [ask(f"2001:db8:1:{n:x}::1") for n in range(9)] == [200] * 8 + [429]
    site.visitor().open("/reset/" + "x" * 43, environ_overrides={"REMOTE_ADDR": "2001:db8:1:1::9"})
    rows = json.loads(run(site, "limits", "show", "2001:db8:1:1::2", "--format", "json").stdout)
    assert [(row["what"], row["network"], row["used"], row["is_over"]) for row in rows] == [
        ("posts", "2001:db8:1:1::/64", 1, False),
        ("posts", "2001:db8:1::/56", 8, True),
        ("posts", "2001:db8:1::/48", 8, False),
        ("bad links", "2001:db8:1:1::/64", 1, False),
        ("bad links", "2001:db8:1::/56", 1, False),
        ("bad links", "2001:db8:1::/48", 1, False),
    ]
    assert run(site, "limits", "clear", "2001:db8:1:1::2").output == "6 cleared\n"
    assert run(site, "limits", "show", "2001:db8:1:1::2").output == "nothing has been counted\n"
    assert ask("2001:db8:1:9::1") == 200
