"""The browser and system that a User-Agent header names, in words of our own."""

from typing import Any

from flask import request

# The first mark in the header decides, because most browsers also claim to be others.
BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "SamsungBrowser/": "Samsung Internet",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "CriOS/": "Chrome",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "CrOS": "ChromeOS",
    "Mac OS X": "macOS",
    "Linux": "Linux",
}


def requester() -> dict[str, Any]:
    """Return the network address and browser of the request, for a mail about it. None: no request."""
    source = request.remote_addr if request else None
    return {"source": source, "user_agent": describe(request.user_agent.string) if request else ""}


def describe(user_agent: str) -> str:
    """Return a text such as: Firefox, Windows. Empty for an unknown one, which never stands in a mail.

    The header is the sender's own text, and would carry any message into the owner's mailbox.
    """
    browser = next((name for mark, name in BROWSERS.items() if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS.items() if mark in user_agent), "")
    return ", ".join(filter(None, (browser, system)))
