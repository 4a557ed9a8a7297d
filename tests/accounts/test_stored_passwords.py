"""Stored passwords: what counts as one, the cost of a sign-in, and where none comes from."""

from typing import Any

import flask_migrate
import pytest
from sqlalchemy import func, select
from support.site import NEW_PASSWORD, NOBODYS, OLD_PASSWORD, Site, load_settings

from app import create_app
from app.accounts.models import User
from app.db.engine import db


@pytest.mark.requirement("R33")
def test_marker_or_plain_text_in_password_column_is_no_password(site: Site) -> None:
    for stored in ("!", "*", "$argon2id$other", "$2b$12$", "$5$x", "plain text that is stored"):
        site.change(User, User.username == "alice", password=stored)
        for password in (stored, OLD_PASSWORD):
            answer = site.visitor().post_json("/login", json={"identity": "alice", "password": password})
            assert answer.status_code == 400, (stored, password)


def test_every_sign_in_costs_one_verification(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    context = site.app.extensions["security"].pwd_context
    verify = context.verify
    monkeypatch.setattr(context, "verify", lambda *a, **k: (calls.append("verify"), verify(*a, **k))[1])
    for identity in ("alice", *NOBODYS.values()):
        calls.clear()
        site.visitor().post_json("/login", json={"identity": identity, "password": "not the password"})
        assert calls == ["verify"], identity


@pytest.mark.requirement("R43")
def test_fresh_installation_has_no_account_and_no_role(tmp_path: Any) -> None:
    app = create_app(load_settings(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/fresh.db"))
    with app.app_context():
        flask_migrate.upgrade()
        for table in db.metadata.sorted_tables:
            assert db.session.scalar(select(func.count()).select_from(table)) == 0, table.name
        db.engine.dispose()


@pytest.mark.requirement("R43")
def test_commands_do_not_repeat_passwords(site: Site) -> None:
    runner = site.app.test_cli_runner()
    for words in (["create", "carol@example.com", "--active"], ["change_password", "alice"]):
        ended = runner.invoke(args=["users", *words, "--password", NEW_PASSWORD])
        assert ended.exit_code == 0, ended.output
        assert NEW_PASSWORD not in ended.output
