"""The fixtures that every test may use. What they are made of is in `support/`."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import event
from sqlalchemy.pool import Pool
from support import servers
from support.application import application, application_database, application_files  # noqa: F401
from support.caches import pytest_collection_finish, pytest_configure  # noqa: F401
from support.hashes import pytest_runtest_setup  # noqa: F401
from support.mailbox import Mailbox, listening
from support.nginx import authority, nginx  # noqa: F401
from support.security_table import pytest_addoption, pytest_terminal_summary  # noqa: F401  # `make security`
from support.servers import CHROMIUM, free_port, redis, skip_or_fail  # noqa: F401
from support.site import Site, fill, load_settings

from app import create_app
from app.db.engine import db


@pytest.fixture(scope="session", autouse=True)
def connections() -> Iterator[list[Any]]:
    """The connections to databases, closed at the end. Python 3.13 warns of one that is left to the garbage."""
    opened: list[Any] = []

    def remember(connection: Any, _record: Any) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", remember)
    yield opened
    event.remove(Pool, "connect", remember)
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    program = CHROMIUM or skip_or_fail("Chromium is not installed (Debian: apt-get install chromium)")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=quiet) as browser,
    ):
        yield browser


@pytest.fixture(scope="session")
def open_tab(chromium: Browser) -> Callable[..., Page]:
    """Opens a tab of a browser that was never here, with JavaScript or without.

    It is always the same tab, without its cookies and history, because a new one takes a core for a second.
    """
    tabs: dict[bool, Page] = {}

    def open_tab(*, javascript: bool) -> Page:
        if javascript not in tabs:
            context = chromium.new_context(ignore_https_errors=True, java_script_enabled=javascript)
            tabs[javascript] = context.new_page()
        tab = tabs[javascript]
        for other in tab.context.pages:
            if other != tab:
                other.close()
        tab.unroute_all()
        tab.goto("about:blank")
        tab.context.clear_cookies()
        session = tab.context.new_cdp_session(tab)
        session.send("Page.resetNavigationHistory")
        session.detach()
        tab.set_default_timeout(15_000)
        return tab

    return open_tab


@pytest.fixture
def page(open_tab: Callable[..., Page]) -> Page:
    """A tab without JavaScript: nothing of ours needs it."""
    return open_tab(javascript=False)


@pytest.fixture(scope="session")
def fresh_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fresh") / "fresh.db"
    fill(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgresql() -> Iterator[servers.PostgreSQL]:
    missing = "PostgreSQL's server is not installed (Debian: apt-get install postgresql)"
    with servers.postgresql(servers.find_postgresql() or skip_or_fail(missing)) as server:
        yield server


@pytest.fixture(scope="session")
def fresh_postgresql(postgresql: servers.PostgreSQL) -> str:
    return fill(postgresql.create()).rsplit("/", 1)[1]


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Makes databases with the accounts in them: on SQLite, or on what the test is marked BOTH for."""
    if getattr(request, "param", "sqlite") == "postgresql":
        server, template = map(request.getfixturevalue, ("postgresql", "fresh_postgresql"))
        return lambda: server.create(template)

    def on_sqlite() -> str:
        path = tmp_path / f"site{len(list(tmp_path.glob('site*.db')))}.db"
        shutil.copy(request.getfixturevalue("fresh_sqlite"), path)
        return f"sqlite:///{path}"

    return on_sqlite


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with listening(Mailbox(free_port())) as box:
        yield box


@pytest.fixture
def make_site(database: Callable[[], str], mailbox: Mailbox) -> Iterator[Any]:
    """Builds sites; keyword arguments are settings. All share one mailbox."""
    made: list[Flask] = []

    def make(**overrides: Any) -> Site:
        defaults = {
            "SQLALCHEMY_DATABASE_URI": overrides.get("SQLALCHEMY_DATABASE_URI") or database(),
            "MAIL_SERVER": "127.0.0.1", "MAIL_PORT": mailbox.port, "MAIL_DEFAULT_SENDER": "no-reply@example.com",
            "RECOVERY_MAIL_COOLDOWN": "0 seconds", "RECOVERY_MAIL_DAILY_CAP": 1000, "RATELIMIT_ENABLED": False,
        }  # fmt: skip
        made.append(create_app(load_settings(**{**defaults, **overrides})))
        return Site(made[-1], mailbox)

    yield make
    for app in made:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


@pytest.fixture
def site(make_site: Any) -> Site:
    return make_site()
