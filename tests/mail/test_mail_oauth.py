"""The login at the mail server by OAuth 2, with a token server and a mail server of the suite's own."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.commands import run
from support.outbox import states
from support.servers import free_port
from support.site import Site, at_work
from support.token_server import REFRESH_TOKEN, OAuthMailbox, OAuthRelay, TokenServer, granting

from app.cli import live_checks
from app.mail import relay_login
from app.mail.smtp_failures import MailHeld, RelayAway, RelayMisconfigured

# The test relay takes tokens in the clear on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    relay_login._client.cache_clear()
    with granting() as server:
        yield server


@contextmanager
def relay(tokens: TokenServer, *, excluded: tuple[str, ...] = ("LOGIN", "PLAIN")) -> Iterator[OAuthMailbox]:
    box = OAuthMailbox(free_port(), tokens=tokens)
    controller = OAuthRelay(box, excluded)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


@pytest.fixture
def box(tokens: TokenServer) -> Iterator[OAuthMailbox]:
    with relay(tokens) as server:
        yield server


@pytest.fixture
def make(make_site: Any, box: OAuthMailbox, tokens: TokenServer) -> Any:
    """Builds a site that signs in at the relay with the grant in its arguments."""

    def build(**grant: Any) -> Site:
        site: Site = make_site(MAIL_PORT=box.port, **tokens.grants(**grant))
        site.mailbox = box
        return site

    return build


def reason_held(site: Site, kind: type[MailHeld] = RelayMisconfigured) -> str:
    """Ask, and return why all mail is held. The message waits, and its attempt does not count."""
    site.ask()
    with pytest.raises(kind) as caught:
        site.work()
    assert {row["attempts"] for row in site.messages() if row["state"] == "waiting"} == {0}
    return str(caught.value)


REFRESH = {"grant_type": "refresh_token", "refresh_token": REFRESH_TOKEN}


@pytest.mark.parametrize(
    ("grant", "asked"),
    [
        ({}, {"grant_type": "client_credentials", "scope": "smtp.send"}),
        ({"REFRESH_TOKEN": REFRESH_TOKEN, "SCOPE": ""}, REFRESH),
        ({"REFRESH_TOKEN": REFRESH_TOKEN, "CLIENT_SECRET": ""}, {**REFRESH, "scope": "smtp.send"}),
    ],
)
@pytest.mark.requirement("R23")
def test_worker_signs_in_by_either_grant_and_keeps_the_token(
    make: Any, tokens: TokenServer, grant: dict[str, str], asked: dict[str, str]
) -> None:
    site = make(**grant)
    with at_work(site, threads=4):
        for count, name in enumerate(("alice", "bob", "alice@example.com"), 1):
            site.ask(name)
            site.mailbox.wait_for(count)
    with site.app.app_context():
        assert list(live_checks._check_relay("")) == []
    run(site, "mail", "send-test", "me@example.com")
    assert len(site.mailbox.mails) == 4
    assert len(site.mailbox.logins) >= 3  # with connections of their own
    assert len(tokens.requests) == 1
    [request] = tokens.requests
    assert request.pop("client_id") == "id"
    assert bool(request.pop("client_secret", "")) == (grant.get("CLIENT_SECRET") != "")
    assert request == asked


def test_token_is_renewed_before_it_ends_with_its_refresh_token(make: Any, tokens: TokenServer) -> None:
    tokens.rotates, tokens.lifetime = True, 30  # ends within relay_login.EARLY_SECONDS
    site = make(REFRESH_TOKEN=REFRESH_TOKEN)
    site.new_link("alice")
    tokens.lifetime = 3600
    site.new_link("bob")
    site.new_link("alice@example.com")
    assert [request["refresh_token"] for request in tokens.requests] == [REFRESH_TOKEN, "refresh 2"]
    relay_login._client.cache_clear()  # a restart
    tokens.refresh_token = REFRESH_TOKEN
    site.new_link("bob@example.com")


@pytest.mark.parametrize("is_by_challenge", [False, True])
@pytest.mark.requirement("R61")
def test_revoked_token_is_replaced(make: Any, tokens: TokenServer, is_by_challenge: bool) -> None:
    site = make()
    site.new_link("alice")
    tokens.valid.clear()
    site.mailbox.refuses_by_challenge = is_by_challenge
    reason = reason_held(site)
    assert reason.startswith("MAIL_USERNAME, RECOVERY_MAIL_OAUTH_SCOPE, ")
    assert reason.endswith(": the relay refuses the token (535 5.7.139)")
    site.work()
    assert states(site)[-1] == ("sent", 1)
    assert len(tokens.requests) == 2


PREFIX = "RECOVERY_MAIL_OAUTH_"


@pytest.mark.parametrize(
    ("grant", "answer", "setting"),
    [
        ({"CLIENT_SECRET": "wrong"}, None, "CLIENT_SECRET"),
        ({"REFRESH_TOKEN": "wrong"}, None, "REFRESH_TOKEN"),
        ({}, (400, b'{"error": "invalid_scope"}'), "SCOPE"),
        ({}, (400, b'{"error": "access_denied"}'), "URL"),
        ({}, (302, b""), "URL"),
        ({}, (404, b"[]"), "URL"),
        ({}, (400, b'{"error": {"code": 1}}'), "URL"),
        ({}, (200, b'{"token_type": "Bearer"}'), "URL"),
        ({}, (200, b'{"access_token": "x", "expires_in": "soon"}'), "URL"),
    ],
)
def test_refusal_holds_all_mail_and_names_the_setting(
    make: Any, tokens: TokenServer, grant: dict[str, str], answer: tuple[int, bytes] | None, setting: str
) -> None:
    tokens.answer = answer
    site = make(**grant)
    reason, setting = reason_held(site), PREFIX + setting
    assert (reason.startswith(setting), reason.isprintable()) == (True, True)
    with site.app.app_context():
        [finding] = live_checks._check_relay("")
        assert finding.setting == setting
    assert setting in run(site, "mail", "send-test", "me@example.com", fails=True).output
    tokens.answer = None
    if not grant:
        site.work()
        assert states(site) == [("sent", 1)]


@pytest.mark.parametrize("failure", ["status", "drip", "nobody"])
def test_token_server_that_is_away_holds_mail_and_is_not_waited_for(
    make_site: Any, box: OAuthMailbox, tokens: TokenServer, failure: str
) -> None:
    tokens.answer = (503, b"busy") if failure == "status" else None
    tokens.drips = failure == "drip"
    grant = {"URL": f"http://127.0.0.1:{free_port()}/"} if failure == "nobody" else {}
    site: Site = make_site(MAIL_TIMEOUT="0.5 seconds", MAIL_PORT=box.port, **tokens.grants(**grant))
    began = time.monotonic()
    assert reason_held(site, RelayAway).startswith(f"{PREFIX}URL: the token server cannot be reached")
    assert time.monotonic() - began < 5


def test_relay_without_xoauth2_gets_no_token(make_site: Any, tokens: TokenServer) -> None:
    with relay(tokens, excluded=("XOAUTH2",)) as box:
        site: Site = make_site(MAIL_PORT=box.port, **tokens.grants())
        assert reason_held(site).startswith(f"{PREFIX}URL: the relay offers no login by OAuth")
        assert box.logins == []
