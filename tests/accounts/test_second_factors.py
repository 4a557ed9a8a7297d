"""Second factors and one-time codes. No reset gets around them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask_security import SmsSenderBaseClass
from passlib.totp import TOTP
from sqlalchemy.orm.attributes import set_committed_value
from sqlalchemy.orm.exc import StaleDataError
from support import authenticator
from support.commands import run
from support.database import database_uri
from support.features import (
    CODE_SIGN_IN,
    PASSKEYS,
    PHONE,
    RECOVERY_CODES,
    SECOND_FACTOR,
    enter_password,
    new_secret,
    one_time_code,
    set_up_code_sign_in,
    set_up_factor,
)
from support.mailbox import html_of, text_of
from support.site import BOTH, NEW_PASSWORD, OLD_PASSWORD, SECRETS, Site, Visitor

from app.accounts import one_time_codes
from app.accounts.models import User
from app.cli.admin import find_account
from app.db.engine import db
from app.settings.problems import SettingsError


@pytest.fixture
def site(make_site: Any, tmp_path: Path) -> Site:
    built: Site = make_site(**SECOND_FACTOR)
    built.app.instance_path = str(tmp_path)  # sms.txt is written there
    return built


def enter_code(visitor: Visitor, code: str, path: str = "/tf-validate") -> bool:
    visitor.submit(path, path, code=code)
    return visitor.is_signed_in()


def read_code(site: Site, method: str, secret: str) -> str:
    if method == "authenticator":
        return one_time_code(site, secret)
    if method == "sms":
        text = Path(site.app.instance_path, "sms.txt").read_text()
        assert f" {PHONE} " in text
        return re.findall(r"\b\d{6}\b", text)[-1]
    waiting = site.messages()[-1]
    site.work()
    code: str = re.findall(r"\b\d{6}\b", text_of(site.mailbox.mails[-1]))[-1]
    assert code not in str(waiting)  # encrypted in the outbox
    return code


@pytest.mark.requirement("R37")
@pytest.mark.parametrize("method", ["authenticator", "email", "sms"])
def test_second_factor_is_required_after_a_reset(site: Site, method: str) -> None:
    secret = set_up_factor(site, method)
    alice = site.visitor()
    alice.set_password(site.new_link())
    assert not alice.is_signed_in()
    alice = enter_password(site, NEW_PASSWORD)
    assert not enter_code(alice, "000000")
    assert enter_code(alice, read_code(site, method, secret))


def test_codes_that_expired_before_they_could_be_mailed_are_not(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up_factor(site, "email")
    mailed = len(site.mailbox.mails)
    with monkeypatch.context() as brief:
        brief.setitem(site.app.config, "SECURITY_TWO_FACTOR_MAIL_VALIDITY", 0.001)
        enter_password(site)
    site.work()
    assert len(site.mailbox.mails) == mailed
    enter_password(site)
    site.work()
    assert len(site.mailbox.mails) == mailed + 1


def in_digits_from(zero: int) -> Callable[[str], str]:
    return lambda code: code.translate({ord("0") + digit: zero + digit for digit in range(10)})


# Codes as keyboards of other scripts and copied messages hold them.
SPELLINGS = {
    "as it is": lambda code: code,
    "Arabic": in_digits_from(0x660),
    "Persian": in_digits_from(0x6F0),
    "Devanagari": in_digits_from(0x966),
    "full-width": in_digits_from(0xFF10),
    "left-to-right mark": lambda code: f"\u200e{code}\u200e",
    "no-break space": lambda code: f"{code[:3]}\u00a0{code[3:]}",
    "space": lambda code: f"{code[:3]} {code[3:]}",
}


@BOTH
@pytest.mark.requirement("R37")
def test_code_works_once_in_all_processes_in_digits_of_any_script(site: Site, make_site: Any) -> None:
    key = {"SECRET_KEY": "qW7Zr2Lx9VbN4mKtYp6HsD", "SECRET_KEY_FALLBACKS": [SECRETS["FLASK_SECRET_KEY"]]}
    other: Site = make_site(**SECOND_FACTOR, SQLALCHEMY_DATABASE_URI=database_uri(site), **key)
    for first, spell in SPELLINGS.items():
        code = one_time_code(site, set_up_factor(site))
        assert enter_code(enter_password(site), spell(code)), first
        for process, second in ((site, "as it is"), (other, "space")):
            assert not enter_code(enter_password(process), SPELLINGS[second](code)), (first, second)


def test_recovery_code_works_once_however_it_is_typed(make_site: Any) -> None:
    site: Site = make_site(**RECOVERY_CODES)
    set_up_factor(site)
    with site.app.app_context():
        util = site.app.extensions["security"].mf_recovery_codes_util
        codes = util.create_recovery_codes(find_account("alice"))
        db.session.commit()
    spellings = [SPELLINGS[name] for name in ("Arabic", "Persian", "full-width", "left-to-right mark")]
    spellings += [lambda code: code.upper().replace("-", " ")]  # from paper, on a phone
    for code, spell in zip(codes, spellings, strict=True):
        for is_first in (True, False):
            assert enter_code(enter_password(site), spell(code), "/mf-recovery") is is_first


def test_code_that_is_a_number_keeps_its_leading_zeros(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may send the code as a number."""
    set_up_factor(site)
    monkeypatch.setattr("passlib.totp.TOTP._generate", lambda *_: "000123")
    alice = enter_password(site)
    alice.post_json("/tf-validate", json={"code": 123})
    assert alice.is_signed_in()


def add_passkey(
    site: Site, number: bytes, public_key: bytes, usage: str = "secondary", identity: str = "alice"
) -> None:
    """Give an account a passkey, as a second factor or to sign in with it alone ("first")."""
    key = {"credential_id": number, "public_key": public_key, "sign_count": 0, "usage": usage}
    device = {"name": "My phone", "device_type": "single_device", "backup_state": False}
    with site.app.app_context():
        site.app.extensions["security"].datastore.create_webauthn(find_account(identity), **key, **device)
        db.session.commit()


def use_passkey(visitor: Visitor, number: bytes, key: Any) -> bool:
    """Return whether the visitor is signed in then."""
    begun: Any = visitor.post_json("/wan-signin", json={}).json["response"]  # type: ignore[index]
    challenge = begun["credential_options"]["challenge"]
    used = authenticator.use_credential(number, key, challenge, visitor.base)
    visitor.post_json(f"/wan-signin/{begun['wan_state']}", json={"credential": used})
    return visitor.is_signed_in()


@pytest.mark.requirement("R37")
def test_passkey_as_second_factor_is_required_after_a_reset(make_site: Any) -> None:
    site: Site = make_site(**PASSKEYS, RECOVERY_PUBLIC_URL="http://localhost:5000")
    add_passkey(site, b"key", b"public")
    site.work()  # mails the notice of the passkey
    hint = site.visitor().post_json("/wan-signin", json={"identity": "alice@example.com"})
    assert hint.json["response"]["credential_options"]["allowCredentials"] == []  # type: ignore[index]
    assert "Passkeys need JavaScript" in site.visitor().open("/wan-signin").text
    site.visitor().set_password(site.new_link())
    enter_password(site, NEW_PASSWORD)


@pytest.mark.requirement("R37")
def test_passkey_as_second_factor_follows_the_password_of_its_account(make_site: Any) -> None:
    """The thief has the security key of alice, and a second factor in an account of his own."""
    site: Site = make_site(**PASSKEYS, **SECOND_FACTOR, RECOVERY_PUBLIC_URL="http://localhost:5000")
    key = authenticator.new_key()
    add_passkey(site, b"hers", authenticator.cose_key(key))
    own = {"tf_primary_method": "authenticator", "tf_totp_secret": new_secret(site)}
    site.change(User, User.username == "bob", **own)
    for identity, is_signed_in in (("bob", False), ("alice", True)):
        visitor = site.visitor()
        visitor.post_json("/login", json={"identity": identity, "password": OLD_PASSWORD})
        assert use_passkey(visitor, b"hers", key) is is_signed_in


@pytest.mark.parametrize("settings", [{}, SECOND_FACTOR, RECOVERY_CODES])
def test_second_factor_ends_a_half_finished_sign_in(make_site: Any, settings: dict[str, Any]) -> None:
    """Without SECURITY_TWO_FACTOR, too, which has nothing to do with passkeys."""
    features = {name: value for name, value in settings.items() if name != "SECURITY_TWO_FACTOR"}
    features |= {
        "SECURITY_TWO_FACTOR": settings == SECOND_FACTOR,
        "RECOVERY_PUBLIC_URL": "http://localhost:5000",
    }
    site: Site = make_site(**PASSKEYS, **features)
    visitor, second, first = site.visitor(), authenticator.new_key(), authenticator.new_key()
    add_passkey(site, b"second", authenticator.cose_key(second))
    add_passkey(site, b"first", authenticator.cose_key(first), "first", "bob")
    visitor.post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert use_passkey(visitor, b"second", second)
    visitor.post_json("/logout", json={})
    assert not visitor.is_signed_in()
    assert not use_passkey(visitor, b"second", second)  # the second factor alone
    assert use_passkey(visitor, b"first", first)  # another person in the same browser


@pytest.mark.requirement("R52")
def test_sign_in_with_a_passkey_leads_back_to_the_client(make_site: Any) -> None:
    origin, shop = "http://localhost:5000", {"origins": ["https://shop.example.com"]}
    site: Site = make_site(**PASSKEYS, RECOVERY_PUBLIC_URL=origin, RECOVERY_CLIENTS={"shop": shop})
    key, visitor = authenticator.new_key(), site.visitor()
    add_passkey(site, b"hers", authenticator.cose_key(key), usage="first")
    visitor.open("/login", query_string={"client": "shop", "return_to": "/cart"})
    begun: Any = visitor.post_json("/wan-signin", json={}).json["response"]  # type: ignore[index]
    used = authenticator.use_credential(b"hers", key, begun["credential_options"]["challenge"], origin)
    answer = visitor.submit("/login", f"/wan-signin/{begun['wan_state']}", credential=used)
    assert (answer.location, visitor.is_signed_in()) == ("https://shop.example.com/cart", True)


@pytest.mark.requirement("R37")
def test_trusted_device_is_forgotten_by_a_reset(make_site: Any) -> None:
    site: Site = make_site(**SECOND_FACTOR, SECURITY_TWO_FACTOR_ALWAYS_VALIDATE=False)
    secret, alice = set_up_factor(site), site.visitor()
    alice.submit("/login", identity="alice", password=OLD_PASSWORD, remember="y")
    assert enter_code(alice, one_time_code(site, secret))
    alice.submit("/", "/logout")
    assert alice.sign_in()  # without a code
    alice.submit("/", "/logout")
    alice.set_password(site.new_link())
    assert not alice.sign_in(password=NEW_PASSWORD)


@pytest.mark.requirement("R57")
def test_code_guesses_are_counted_across_a_reset(make_site: Any) -> None:
    site: Site = make_site(**SECOND_FACTOR, RATELIMIT_ENABLED=True, RECOVERY_LIMIT_IDENTITY="3 per hour")
    set_up_factor(site)
    statuses = []
    for password in (OLD_PASSWORD, NEW_PASSWORD):
        alice = enter_password(site, password)
        statuses += [alice.post_json("/tf-validate", json={"code": "000000"}).status_code for _ in range(2)]
        site.visitor().set_password(site.new_link())
        site.work()
    assert statuses == [400, 400, 400, 429]


@pytest.mark.requirement("R37")
def test_half_finished_sign_in_cannot_replace_a_factor(make_site: Any) -> None:
    required = {
        **SECOND_FACTOR,
        "SECURITY_TWO_FACTOR_REQUIRED": True,
        "RECOVERY_PUBLIC_URL": "http://localhost:5000",
    }
    owners_factors: list[Callable[[Site], Any]] = [
        set_up_factor,
        lambda site: add_passkey(site, b"key", b"public"),
    ]
    for set_up in owners_factors:
        site: Site = make_site(**PASSKEYS, **required)
        before, thief = enter_password(site), enter_password(site)
        begun: Any = thief.post_json("/tf-setup", json={"setup": "authenticator"}).json
        set_up(site)
        assert before.post_json("/tf-setup", json={"setup": "authenticator"}).status_code == 400
        code = TOTP(key=begun["response"]["tf_authr_b32key"]).generate().token
        assert thief.post_json("/tf-validate", json={"code": code}).status_code == 400
        assert not before.is_signed_in()
        assert not thief.is_signed_in()


def test_recovery_code_works_once_in_concurrent_requests(make_site: Any) -> None:
    site: Site = make_site(**RECOVERY_CODES)
    with site.app.app_context():
        datastore = site.app.extensions["security"].datastore
        user = find_account("alice")
        datastore.mf_set_recovery_codes(user, ["one", "two"])
        db.session.commit()
        before = list(user.mf_recovery_codes)
        datastore.mf_delete_recovery_code(user, 0)
        db.session.commit()
        db.session.expunge_all()
        late = find_account("alice")
        set_committed_value(late, "mf_recovery_codes", before)  # as the other request has read them
        with pytest.raises(StaleDataError):
            datastore.mf_delete_recovery_code(late, 0)
        db.session.rollback()
        assert len(find_account("alice").mf_recovery_codes) == 1


def test_codes_for_sign_in_are_removed_once_and_never_the_password(make_site: Any) -> None:
    site: Site = make_site(**CODE_SIGN_IN)
    set_up_code_sign_in(site)
    alice, before = site.visitor(), site.rows(User)
    assert alice.sign_in()
    for methods in (["password"], ["email", "password"], ["authenticator"], "password"):
        answer: Any = alice.post_json("/us-setup", json={"delete_method": methods})
        assert (answer.status_code, [*answer.json["response"]["field_errors"]]) == (400, ["delete_method"])
        assert site.rows(User)[0]["us_totp_secrets"] == before[0]["us_totp_secrets"]
    assert alice.post_json("/us-setup", json={"delete_method": ["email", "email"]}).status_code == 200
    assert site.rows(User)[0]["us_totp_secrets"] is None


@pytest.mark.parametrize("operator", ["op@example.com", None])
def test_lost_second_factor_is_reported_to_the_operator_who_removes_it(
    make_site: Any, operator: str | None
) -> None:
    # A colon ends the site's name in the content of the QR code.
    settings = {"RECOVERY_OPERATOR": operator} if operator else {}
    site: Site = make_site(**SECOND_FACTOR, RECOVERY_SITE_NAME="Acme: Mail", **settings)
    set_up_factor(site)
    alice = enter_password(site)
    alice.submit("/tf-validate", "/tf-rescue", help_setup="email")
    assert site.messages() == []
    alice.submit("/tf-validate", "/tf-rescue", help_setup="help")
    site.work()
    assert [mail["To"] for mail in site.mailbox.mails] == ([operator] if operator else [])
    for mail in site.mailbox.mails:
        assert mail["Subject"] == "Acme: Mail: a user can't use their second factor"
        for text in (text_of(mail), html_of(mail)):
            assert "alice@example.com" in text
            assert "manage.py users reset_access" in text
    assert not site.password_works(OLD_PASSWORD)
    run(site, "users", "reset_access", "alice")
    assert site.password_works(OLD_PASSWORD)


def test_sms_service_is_loaded_by_its_name_and_its_failures_are_answered(
    make_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers: list[str] = []

    class Sender(SmsSenderBaseClass):
        def send_sms(self, from_number: str, to_number: str, msg: str) -> None:
            numbers.append(to_number)
            raise RuntimeError

    monkeypatch.setattr(one_time_codes, "Sender", Sender, raising=False)
    service = {"SECURITY_SMS_SERVICE": "app.accounts.one_time_codes:Sender"}
    site: Site = make_site(**{**SECOND_FACTOR, **service})
    set_up_factor(site, "sms")
    answer = site.visitor().post_json("/login", json={"identity": "alice", "password": OLD_PASSWORD})
    assert numbers == [PHONE]
    assert (answer.status_code, answer.json["response"]["error_code"]) == (503, "unavailable")  # type: ignore[index]
    for name in (
        "no.such.module:Sender",
        "app.accounts.one_time_codes:NoSuch",
        "app.accounts.one_time_codes:",
    ):
        with pytest.raises(SettingsError, match=r"SECURITY_SMS_SERVICE .*cannot be (imported|used)"):
            make_site(**{**SECOND_FACTOR, "SECURITY_SMS_SERVICE": name})
