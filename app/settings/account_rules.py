"""Cross-field rules of RECOVERY_ACCOUNTS: its keys together, and features that need accounts of our own."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

from .features import by_feature
from .schema import Settings
from .sources import ROOT


def find_violations(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the setting and the reason for every rule that is broken."""
    if not (accounts := settings.RECOVERY_ACCOUNTS):
        if accounts.model_fields_set:
            yield "RECOVERY_ACCOUNTS", "table: name the application's table, or remove the other keys"
        return
    for name in by_feature("needs_own_accounts"):
        if getattr(settings, name):
            yield name, "needs accounts of Sparekey's own, and the application has them (RECOVERY_ACCOUNTS)"
    if accounts.kinds.keys() != settings.SECURITY_USER_IDENTITY_ATTRIBUTES.keys():
        kinds = ", ".join(accounts.kinds)
        yield "SECURITY_USER_IDENTITY_ATTRIBUTES", f"name the kinds of RECOVERY_ACCOUNTS: {kinds}"
    if bool(settings.RECOVERY_ACCOUNTS_SALT) != (accounts.hash == "flask-security"):
        yield "RECOVERY_ACCOUNTS_SALT", 'needed with hash = "flask-security", and only then: its salt'
    url = make_url(settings.SQLALCHEMY_DATABASE_URI)
    is_sqlite, schema = url.get_backend_name() == "sqlite", accounts.table.rpartition(".")[0]
    own_file = str(Path(ROOT, "instance", url.database or ""))
    written, read = accounts.columns_written, {**accounts.columns_read, "password": ""}.values()
    reasons = {
        "hash: name the format that the application verifies": not accounts.hash,
        "sign_in_url: name the page on which the application's users sign in": not accounts.sign_in_url,
        "password, uniquifier, changed_at: each needs a column of its own": (
            len({*written}) < len(written) or {*written} & {*read}
        ),
        "file: name the application's database file, or its database on PostgreSQL in SQLALCHEMY_DATABASE_URI"
        " (default: SQLite)": is_sqlite and not accounts.file,
        "file: must not be Sparekey's own file": is_sqlite and accounts.file == own_file,
        "file: only for SQLite": not is_sqlite and accounts.file,
        "table: SQLite has no schemas": is_sqlite and schema,
        "own_schema: must not be the table's": not is_sqlite and accounts.own_schema == (schema or "public"),
    }
    yield from (("RECOVERY_ACCOUNTS", reason) for reason, is_broken in reasons.items() if is_broken)
