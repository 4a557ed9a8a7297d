"""A browser for real servers: keeps cookies, follows redirects, and submits forms."""

from __future__ import annotations

import re
import ssl
from html import unescape
from typing import Any
from urllib.parse import urljoin

import httpx

from .servers import NO_TLS
from .site import OLD_PASSWORD

# As nginx asks. A connection that stays open would be closed by a restart.
ALONE = {"Connection": "close"}


class HttpBrowser:
    def __init__(self, base: str, cookies: Any = None, tls: ssl.SSLContext = NO_TLS) -> None:
        self.client = httpx.Client(base_url=base, cookies=cookies, headers=ALONE, timeout=60, verify=tls)

    def open(self, url: str) -> httpx.Response:
        return self.client.get(url, follow_redirects=True)

    def form(self, url: str) -> dict[str, str]:
        """Return the hidden field of a page's form."""
        return {"csrf_token": _search(r'name="csrf_token"[^>]*value="([^"]+)"', self.open(url).text)}

    def submit(self, url: str, **fields: str) -> httpx.Response:
        """Open a page, and post its form."""
        page = self.open(url)
        action = unescape(_search(r'<form method="post" action="([^"]+)"', page.text))
        fields["csrf_token"] = _search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        url, headers = urljoin(str(page.url), action), {"Referer": str(page.url)}
        return self.client.post(url, data=fields, headers=headers, follow_redirects=True)

    def sign_in(self, **fields: str) -> None:
        self.submit("/login", identity="alice", password=OLD_PASSWORD, **fields)
        assert self.is_signed_in()

    def is_signed_in(self) -> bool:
        return self.client.get("/change").status_code == 200

    def with_only(self, cookie: str) -> HttpBrowser:
        """Return another browser that has this cookie alone."""
        return HttpBrowser(str(self.client.base_url), {cookie: self.client.cookies[cookie]})


def _search(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]
