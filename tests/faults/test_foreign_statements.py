"""A process is killed before every statement and commit of a redemption in another application's table."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

from faults.test_every_statement import NEW, Dying
from support.application import EVERYWHERE, OLD_HASH, Application
from support.recovery import code_of
from support.site import Site


@EVERYWHERE
def test_killed_server_leaves_the_applications_new_password_or_a_working_link(
    application: Application, make_site: Any
) -> None:
    deployment = application.deployment()
    site: Site = make_site(**deployment)
    dying = Dying(site, FLASK_RECOVERY_ACCOUNTS=json.dumps(deployment["RECOVERY_ACCOUNTS"]))
    outcomes = set()
    for point in count(1):
        application.execute("UPDATE users SET password = :old WHERE id = 1", old=OLD_HASH)
        link = site.new_link()
        killed = dying.dies("redeem", point, link.rsplit("/", 1)[1], NEW)
        is_written = application.signs_in(NEW)
        outcomes.add(is_written)
        assert site.links()[-1]["redeemed_at"] is not None or not is_written
        assert code_of(site, link, NEW) == ("link_used" if is_written else "redeemed")
        assert application.signs_in(NEW)
        site.work()
        if not killed:
            break
    dying.process.communicate(timeout=20)
    assert outcomes == {True, False}
    assert point > 6
