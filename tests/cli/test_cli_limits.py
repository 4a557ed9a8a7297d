"""`manage.py limits` shows and clears the counts of rate limits in Redis."""

import json
from typing import Any

import pytest
from support.commands import run
from support.features import CODE_SIGN_IN
from support.servers import Redis, free_port
from support.site import OLD_PASSWORD, Site

IPV6 = "2001:db8:1:{:x}::1"


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


def test_limits_of_identity_account_and_source_are_shown_and_cleared(make_site: Any, redis: Redis) -> None:
    storage = {"RATELIMIT_ENABLED": True, "RATELIMIT_STORAGE_URI": redis.url}
    site: Site = make_site(**CODE_SIGN_IN, **storage, RECOVERY_LIMIT_IDENTITY="3 per hour")
    assert run(site, "limits", "show", "alice").output == "nothing has been counted\n"
    alice = site.visitor()
    assert alice.sign_in()
    alice.post_json("/verify", json={"password": "a guess"})
    for identity in ("alice", "1"):  # the second is no identity, and no id of an account
        site.visitor().post_json("/us-signin", json={"identity": identity, "passcode": "123456"})
    for _ in range(4):
        site.visitor().post_json("/login", json={"identity": "alice", "password": "guess"})
    rows = {row["what"]: row for row in counts(site, "alice")}
    assert (rows["account"]["used"], rows["codes"]["used"]) == (1, 1)
    assert (rows["signing in"]["used"], rows["signing in"]["is_over"]) == (3, True)
    assert 0 < rows["signing in"]["ends_in_seconds"] <= 3600
    assert "are refused right now, after too many attempts" in run(site, "users", "show", "alice").output
    assert not site.password_works(OLD_PASSWORD)
    assert "cleared" in run(site, "limits", "clear", "#1").output
    assert counts(site, "alice") == []
    assert site.password_works(OLD_PASSWORD)
    assert "posts" in [row["what"] for row in counts(site, "127.0.0.1")]


def test_limits_of_an_ipv6_address_are_those_of_its_networks(make_site: Any, redis: Redis) -> None:
    limits = {"RECOVERY_LIMIT_SOURCE": "2 per hour", "RECOVERY_LIMIT_BAD_LINKS": "9 per hour"}
    site: Site = make_site(RATELIMIT_ENABLED=True, RATELIMIT_STORAGE_URI=redis.url, **limits)

    def ask(number: int) -> int:
        source, body = {"REMOTE_ADDR": IPV6.format(number)}, {"identity": "nobody"}
        return site.visitor().post_json("/reset", json=body, environ_overrides=source).status_code

    assert [ask(number) for number in range(9)] == [200] * 8 + [429]
    site.visitor().open("/reset/" + "x" * 43, environ_overrides={"REMOTE_ADDR": IPV6.format(1)})
    rows = counts(site, IPV6.format(1))
    assert [(row["what"], row["network"], row["used"], row["is_over"]) for row in rows] == [
        ("posts", "2001:db8:1:1::/64", 1, False),
        ("posts", "2001:db8:1::/56", 8, True),
        ("posts", "2001:db8:1::/48", 8, False),
        ("bad links", "2001:db8:1:1::/64", 1, False),
        ("bad links", "2001:db8:1::/56", 1, False),
        ("bad links", "2001:db8:1::/48", 1, False),
    ]
    assert run(site, "limits", "clear", IPV6.format(1)).output == "6 cleared\n"
    assert counts(site, IPV6.format(1)) == []
    assert ask(9) == 200
