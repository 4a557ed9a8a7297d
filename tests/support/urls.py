"""Redirect targets that lead away from this site, and the URL that a browser makes of each."""

from __future__ import annotations

import re
from urllib.parse import urljoin

from .site import PUBLIC_URL

BAIT = "evil.example"
HOSTILE_URLS = [
    f"//{BAIT}",
    f"///{BAIT}",
    f"////{BAIT}",
    f"/\\{BAIT}",
    f"\\\\{BAIT}",
    f"\\/{BAIT}",
    f"/\t/{BAIT}",
    f"/\n/{BAIT}",
    f"/\r\n/{BAIT}",
    f"\t//{BAIT}",
    f" //{BAIT}",
    f"\x01//{BAIT}",
    f"\x0b\\\\{BAIT}",
    f"\u00a0//{BAIT}",
    f"https:{BAIT}",
    f"https:/{BAIT}",
    f"https:///{BAIT}",
    f"https://{BAIT}",
    f"HTTPS://{BAIT}",
    f"https:\\\\{BAIT}",
    f"ht\ntps://{BAIT}",
    f"http:{BAIT}",
    f"ftp://{BAIT}",
    f"{PUBLIC_URL}@{BAIT}",
    f"{PUBLIC_URL}.{BAIT}",
    f"{PUBLIC_URL}\\@{BAIT}",
    f"http://{BAIT}\\{PUBLIC_URL}",
    f"http://{BAIT}#{PUBLIC_URL}",
    f"//127.0.0.1:5000\\.{BAIT}",
    f"//{BAIT}:80\\@127.0.0.1:5000",
    f"%2f%2f{BAIT}",
    f"/%2f{BAIT}",
    f"/%5c{BAIT}",
    f"/%09/{BAIT}",
    f"%0d%0aLocation:%20//{BAIT}",
    f"/.//{BAIT}",
    f".//{BAIT}",
    f"/x/..//{BAIT}",
    f"/./\\{BAIT}",
    f"／／{BAIT}",
    f"@{BAIT}",
    f".{BAIT}",
    "//evil。example",
    "javascript:alert(1)",
    "JaVa\tScRiPt:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,x",
    "vbscript:x",
]


def browser_target(location: str) -> str:
    """Resolve a Location as the URL standard does: strip control characters, read a backslash as a slash."""
    location = re.sub(r"[\t\r\n]", "", location.strip("".join(map(chr, range(33)))))
    before, mark, after = re.split(r"([?#]|$)", location, maxsplit=1)
    path = re.sub(r"^/{3,}", "//", before.replace("\\", "/"))
    return urljoin(f"{PUBLIC_URL}/login", f"{path}{mark}{after}")
