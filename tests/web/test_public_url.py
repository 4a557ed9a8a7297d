"""The public URL: plain HTTP is refused where it promises https."""

from typing import Any

import pytest
from support.site import NEW_PASSWORD, OLD_PASSWORD, Site

PUBLIC = "https://id.example.com"
PLAIN = {"X-Forwarded-Proto": "http"}


@pytest.mark.requirement("R47")
def test_public_url_with_https_refuses_plain_http(make_site: Any) -> None:
    site: Site = make_site(RECOVERY_PUBLIC_URL=PUBLIC, RECOVERY_TRUSTED_PROXIES=1)
    link = site.new_link()
    for answer in (
        site.visitor().open(link, headers=PLAIN),
        site.visitor().open("/login", headers=PLAIN),
        site.visitor().post_json("/reset", json={"identity": "alice"}, headers=PLAIN),
        site.visitor().post_json(link, json={"password": NEW_PASSWORD}, headers=PLAIN),
        site.visitor().open(link, headers={"X-Forwarded-Proto": "https, http"}),
    ):
        assert answer.status_code == 400
        assert PUBLIC in answer.text
        assert "<form" not in answer.text
    assert len(site.messages()) == 1
    assert site.password_works(OLD_PASSWORD)
    assert site.visitor().open("/healthz", headers=PLAIN).status_code == 200
    assert site.visitor().open(link, headers={"X-Forwarded-Proto": "http, https"}).status_code == 303


@pytest.mark.requirement("R47", "R54")
@pytest.mark.parametrize("settings", [{"RECOVERY_PUBLIC_URL": PUBLIC}, {"RECOVERY_TRUSTED_PROXIES": 1}])
def test_public_url_takes_the_scheme_from_declared_proxies_only(make_site: Any, settings: Any) -> None:
    assert make_site(**settings).visitor().open("/login", headers=PLAIN).status_code == 200
