"""Another request commits between two steps of a change, and the change notices."""

from datetime import datetime
from typing import Any

import flask_security.changeable
import pytest
from support.concurrency import in_another_thread
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, Site

from app.accounts import sign_in
from app.accounts.models import User
from app.recovery import link as links
from app.recovery.link import ResetLink

THIEFS_PASSWORD = "the thief's own password"
FIELDS = {"password": NEW_PASSWORD, "password_confirm": NEW_PASSWORD}


@BOTH
@pytest.mark.requirement("R36")
def test_slow_change_does_not_undo_reset(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thief with session and old password posts /change; the owner resets while it is hashed."""
    thief = site.visitor()
    assert thief.sign_in()
    link = site.new_link()
    hash_password = flask_security.changeable.hash_password

    def hash_slowly(password: str) -> str:
        in_another_thread(lambda: site.visitor().set_password(link))
        return hash_password(password)

    monkeypatch.setattr(flask_security.changeable, "hash_password", hash_slowly)
    new = {"new_password": THIEFS_PASSWORD, "new_password_confirm": THIEFS_PASSWORD}
    assert thief.submit("/change", password=OLD_PASSWORD, **new).status_code == 409
    assert site.password_works(NEW_PASSWORD)
    assert not site.password_works(THIEFS_PASSWORD)
    assert not thief.is_signed_in()


@BOTH
def test_slow_rehash_does_not_undo_reset(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in with the old password upgrades an outdated hash while the owner resets."""
    link = site.new_link()
    hash_password = sign_in.hash_password
    monkeypatch.setattr("passlib.context.CryptContext.needs_update", lambda *_, **__: True)

    def hash_slowly(password: str) -> str:
        monkeypatch.undo()
        in_another_thread(lambda: site.visitor().set_password(link))
        return hash_password(password)

    monkeypatch.setattr(sign_in, "hash_password", hash_slowly)
    site.visitor().post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert site.password_works(NEW_PASSWORD)
    assert not site.password_works(OLD_PASSWORD)


@BOTH
@pytest.mark.requirement("R12", "R14")
def test_link_that_ends_while_password_is_hashed_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    redeem = links.redeem
    codes = {"expires_at": "link_expired", "superseded_at": "link_superseded", "revoked_at": "link_revoked"}
    for column, code in codes.items():
        link = site.new_link()

        def redeem_later(*args: Any, column: str = column, **kwargs: Any) -> None:
            in_another_thread(lambda: site.change(ResetLink, **{column: datetime(2020, 1, 1)}))
            redeem(*args, **kwargs)

        monkeypatch.setattr(links, "redeem", redeem_later)
        answer = site.visitor().post_json(link, json=FIELDS)
        assert answer.json is not None
        assert answer.json["response"]["error_code"] == code
        assert site.events()[-1] == "refused"
    assert site.password_works(OLD_PASSWORD)


@pytest.mark.requirement("R13")
def test_loser_of_a_race_is_told_that_the_link_was_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The winner commits after the loser's link was looked up, and before its account is."""
    link, resolve = site.new_link(), links.resolve

    def resolve_before_the_winner(token: str) -> Any:
        resolved = resolve(token)
        monkeypatch.setattr(links, "resolve", resolve)
        in_another_thread(lambda: site.visitor().set_password(link, "the winner's new password"))
        return resolved

    monkeypatch.setattr(links, "resolve", resolve_before_the_winner)
    answer = site.visitor().post_json(link, json=FIELDS)
    assert answer.json is not None
    assert answer.json["response"]["error_code"] == "link_used"
    assert site.password_works("the winner's new password")


@pytest.mark.requirement("R66")
def test_change_that_fails_at_its_end_changes_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask-Security commits after the request whatever the session holds, on error answers too."""
    in_browser, in_program, before = site.visitor(), site.visitor(), site.rows(User)
    assert in_browser.sign_in()
    assert in_program.sign_in()
    new = {"password": OLD_PASSWORD, "new_password": NEW_PASSWORD, "new_password_confirm": NEW_PASSWORD}
    with monkeypatch.context() as broken:
        broken.setattr(flask_security.changeable.password_changed, "send", lambda *_, **__: 1 / 0)
        assert in_browser.submit("/change", **new).status_code == 500
        assert in_program.post_json("/change", json=new).status_code == 500
    assert site.rows(User) == before
    assert site.messages() == []
