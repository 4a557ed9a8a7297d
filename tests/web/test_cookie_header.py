"""The Cookie header: a pair that is not well-formed is dropped whole."""

import pytest
from support.site import Site


@pytest.mark.requirement("R44")
@pytest.mark.parametrize("odd", ["\xe9", "\x85", "\xa0", "\x0b", "\x1f", "\x00", '"', "(", "a\xe9"])
def test_odd_character_in_a_cookie_name_makes_no_other_cookie(site: Site, odd: str) -> None:
    visitor = site.visitor()
    assert visitor.sign_in()
    name = site.app.config["SESSION_COOKIE_NAME"]
    cookie = visitor.client.get_cookie(name, domain="127.0.0.1")
    assert cookie is not None
    program = site.app.test_client(use_cookies=False)

    def status(header: str) -> int:
        return program.get("/change", base_url=visitor.base, headers={"Cookie": header}).status_code

    assert status(f"{odd}{name}={cookie.value}") == 302, "signed in by a cookie of another name"
    assert status(f"x\xe9=1; {name}={cookie.value}; y=\xe9") == 200
