"""Redeeming a reset link as a browser or as a JSON client."""

from .site import NEW_PASSWORD, Site


def redeem(site: Site, by: str, link: str, password: str = NEW_PASSWORD) -> bool:
    """Set a password with the link from a new browser, and return whether it was accepted."""
    visitor = site.visitor()
    if by == "json":
        return visitor.post_json(link, json={"password": password}).status_code == 200
    handle = visitor.open(link).location
    return handle is not None and visitor.set_password(handle, password).location == "/reset-done"
