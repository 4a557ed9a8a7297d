"""examples/: applications that keep their users, and Sparekey beside each, with the documented settings and grants."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from support.admin import Admin
from support.http_browser import HttpBrowser
from support.mailbox import Mailbox, link_in, text_of
from support.servers import NO_TLS, PostgreSQL, free_port, listening, skip_or_fail
from support.site import NEW_PASSWORD, ROOT

EXAMPLES = ROOT / "examples"
NODE_MODULES = EXAMPLES / "node" / "node_modules"
OLD_PASSWORD = "alice will forget this"
HIDDEN = re.compile(r'<input[^>]*name="(csrf\w+)"[^>]*value="([^"]+)"')
ROLE = "DO $$ BEGIN CREATE ROLE sparekey LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"


@dataclass(frozen=True)
class Example:
    """How an application is started, and how a user signs in there."""

    folder: str
    command: tuple[str, ...]
    sign_in: str = "/login"
    field: str = "email"
    name: str = "alice@example.com"
    set_up: tuple[str, ...] = ()  # a command that ends before the server starts
    forgot: str = 'href="([^"]*/(?:reset|forgot/))"'  # a link on the sign-in page
    ends_sessions: bool = False


PYTHON = (sys.executable, "shop.py")
DJANGO = Example(
    "django",
    (*PYTHON, "runserver", "--noreload", "--insecure"),
    "/admin/login/",
    "username",
    name="alice",
    set_up=(*PYTHON, "setup"),
    ends_sessions=True,
)
FLASK_SECURITY = Example("flask-security", (*PYTHON, "--port"), forgot="^()", ends_sessions=True)
PSYCOPG = Example("flask-psycopg", (*PYTHON, "--port"))
NODE = Example("node", ("node", "shop.js"))


@dataclass
class Shop:
    """A running application, and its database."""

    example: Example
    environ: dict[str, str]
    port: int
    uri: str  # of PostgreSQL, or empty
    file: Path

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        options = {"cwd": EXAMPLES / self.example.folder, "env": self.environ}
        if self.example.set_up:
            subprocess.run(self.example.set_up, check=True, capture_output=True, **options)
        with listening((*self.example.command, str(self.port)), self.port, **options):
            yield

    def administers(self, statements: str) -> None:
        """Execute statements as an administrator of the database."""
        if self.uri:
            with psycopg.connect(self.uri) as connection:
                connection.execute(statements.encode())
        else:
            with closing(sqlite3.connect(self.file)) as file:
                file.executescript(statements)

    def browser(self) -> httpx.Client:
        return httpx.Client(base_url=self.base, follow_redirects=True, verify=NO_TLS, timeout=30)

    def sign_in(self, browser: httpx.Client, password: str) -> bool:
        """Sign in as alice does. True if the application says hello."""
        path = self.example.sign_in
        fields = {**dict(HIDDEN.findall(browser.get(path).text)), self.example.field: self.example.name}
        browser.post(path, data={**fields, "password": password})
        return is_signed_in(browser)


def is_signed_in(browser: httpx.Client) -> bool:
    return "Hello, alice@example.com" in browser.get("/").text


def settings_of(shop: Shop) -> dict[str, str]:
    """Return the settings of the example that another port and database need, as environment variables."""
    file = EXAMPLES / shop.example.folder / "sparekey.toml"
    accounts = tomllib.loads(file.read_text())["RECOVERY_ACCOUNTS"]
    accounts["sign_in_url"] = accounts["sign_in_url"].replace("127.0.0.1:8001", f"127.0.0.1:{shop.port}")
    shipped = f"examples/{shop.example.folder}/shop.db"
    assert accounts.pop("file", shipped) == shipped
    return {
        "RECOVERY_CONFIG": str(file),
        "FLASK_RECOVERY_INBOX": "false",
        "FLASK_RECOVERY_ACCOUNTS": json.dumps(accounts | ({} if shop.uri else {"file": str(shop.file)})),
    }


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """A running example, with users: alice, bob who is inactive, and carol who has no password."""
    example, database = request.param
    if example is NODE and not (shutil.which("node") and NODE_MODULES.is_dir()):
        skip_or_fail("Node.js or the example's packages are not installed (make tools)")
    environ = {name: text for name, text in os.environ.items() if name in ("PATH", "LANG")}
    uri = ""
    if database == "postgresql":
        server: PostgreSQL = request.getfixturevalue("postgresql")
        uri = server.create()
        environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "tests"}
        environ["PGDATABASE"] = uri.rsplit("/", 1)[1]
    made = Shop(example, environ, free_port(), uri, tmp_path / "shop.db")
    environ["SHOP_FILE"] = str(made.file)
    return made


@pytest.fixture
def sparekey(shop: Shop, mailbox: Mailbox, tmp_path: Path) -> Iterator[Admin]:
    uri = shop.uri.replace("tests@", "sparekey@") if shop.uri else f"sqlite:///{tmp_path}/sparekey.db"
    admin = Admin(uri, mailbox.port, **settings_of(shop))
    yield admin
    admin.stops()


WAYS = [(DJANGO, "postgresql"), *((FLASK_SECURITY, base) for base in ("sqlite", "postgresql"))]
WAYS += [(PSYCOPG, "postgresql"), (NODE, "postgresql")]


@pytest.mark.parametrize("shop", WAYS, indirect=True, ids=[f"{way.folder} {base}" for way, base in WAYS])
def test_user_of_an_application_forgets_and_signs_in_there(
    shop: Shop, sparekey: Admin, mailbox: Mailbox
) -> None:
    shop.environ["SPAREKEY_URL"] = sparekey.base
    with shop.serving():
        deploy(shop, sparekey)
        with shop.browser() as before, shop.browser() as after:
            assert shop.sign_in(before, OLD_PASSWORD)
            link, browser = forget(shop, sparekey, mailbox), HttpBrowser(sparekey.base)
            done = browser.submit(link, password=NEW_PASSWORD, password_confirm=NEW_PASSWORD)
            assert 'href="/login"' in done.text
            assert browser.client.get("/login").headers["Location"] == f"{shop.base}{shop.example.sign_in}"
            assert not shop.sign_in(after, OLD_PASSWORD)
            assert shop.sign_in(after, NEW_PASSWORD)
            assert is_signed_in(before) != shop.example.ends_sessions
        sparekey.types("worker", "--once")
        assert "new password" in mailbox.wait_for(3)["Subject"]


def deploy(shop: Shop, sparekey: Admin) -> None:
    """Set Sparekey up as docs/integrate.md says, until `check` has nothing to say about the table."""
    if shop.uri:
        shop.administers(ROLE)
        shop.administers((EXAMPLES / shop.example.folder / "grants.sql").read_text())
    upgraded = sparekey.types("db", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    found = sparekey.types("check").stdout
    if not shop.uri:
        for statement in re.findall("CREATE INDEX[^;]+;", found):
            shop.administers(statement)
        found = sparekey.types("check").stdout
    assert "RECOVERY_ACCOUNTS" not in found, found
    sparekey.serves()


def forget(shop: Shop, sparekey: Admin, mailbox: Mailbox) -> str:
    """Follow the application's link, and ask for everyone. Return the only link that is mailed."""
    with shop.browser() as browser:
        link = re.search(shop.example.forgot, browser.get(shop.example.sign_in).text)
        assert link
        form = browser.get(link[1] or "/reset")
    assert str(form.url) == f"{sparekey.base}/reset"
    for name in ("bob", "carol", "nobody", "alice"):
        asked = HttpBrowser(sparekey.base).submit("/reset", identity=f"{name}@example.com")
        assert str(asked.url) == f"{sparekey.base}/check-mail"
    sparekey.types("worker", "--once")
    mails = {str(mail["To"]): mail for mail in mailbox.mails}
    assert sorted(mails) == ["alice@example.com", "carol@example.com"]
    assert "/reset/" not in text_of(mails["carol@example.com"])  # but how she signs in
    return link_in(mails["alice@example.com"])
