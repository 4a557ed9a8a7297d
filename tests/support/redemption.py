"""Redeeming a reset link as a browser or as a JSON client."""

from werkzeug.test import TestResponse

from .site import NEW_PASSWORD, Site, csrf_token


def redeem(site: Site, by: str, link: str, password: str = NEW_PASSWORD) -> bool:
    """Set a password with the link from a new browser, and return whether it was accepted."""
    visitor = site.visitor()
    if by == "json":
        return visitor.post_json(link, json={"password": password}).status_code == 200
    handle = visitor.open(link).location
    return handle is not None and visitor.set_password(handle, password).location == "/reset-done"


class OpenForm:
    """The form of a link in a browser of its own. Its button can be clicked again."""

    def __init__(self, site: Site, link: str) -> None:
        self.browser = site.visitor()
        page = self.browser.open(link, follow_redirects=True)
        self.path, self.token = page.request.path, csrf_token(page)

    def click(self, password: str = NEW_PASSWORD) -> TestResponse:
        form = {"password": password, "password_confirm": password, "csrf_token": self.token}
        return self.browser.post_json(self.path, data=form)
