"""`manage.py links revoke` and `users force-reset` end links; the latter ends password and sessions, too."""

from typing import Any

from support.commands import run
from support.mailbox import link_in
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

from app.db.audit import RecoveryEvent


def test_force_reset_ends_password_sessions_and_links_and_mails_another(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_MAIL_COOLDOWN="5 minutes")
    visitor, earlier = site.visitor(), site.new_link()
    visitor.sign_in()
    assert "signed out everywhere" in run(site, "users", "force-reset", "#1").output
    assert not site.password_works(OLD_PASSWORD)
    assert visitor.open("/").location == "/login"
    assert "canceled" in visitor.open(earlier).text
    site.work()  # within the cool-down
    link, notice = site.mailbox.mails[-2:]
    assert (link["To"], notice["Subject"]) == ("alice@example.com", "Your Sparekey password was changed")
    assert site.visitor().set_password(link_in(link)).status_code == 302
    assert site.password_works(NEW_PASSWORD)
    reasons = [row["reason"] for row in site.rows(RecoveryEvent) if row["kind"] == "admin"]
    assert [reason.partition(" by ")[0] for reason in reasons] == ["users force-reset"]
    for unknown in ("nobody", "#99999999999999"):
        run(site, "users", "force-reset", unknown, fails=True)


def test_links_revoke_keeps_sessions(site: Site) -> None:
    visitor, link, link_of_bob = site.visitor(), site.new_link(), site.new_link("bob")
    visitor.sign_in()
    assert run(site, "links", "revoke", "alice").output == "1 link revoked\n"
    assert "canceled" in visitor.open(link).text
    assert "You're signed in" in visitor.open("/").text
    assert run(site, "links", "revoke", "--all").output == "1 link revoked\n"
    assert "canceled" in visitor.open(link_of_bob).text
    assert run(site, "links", "revoke", "--all").output == "0 links revoked\n"
    for words in ((), ("alice", "--all"), ("nobody",)):
        run(site, "links", "revoke", *words, fails=True)
