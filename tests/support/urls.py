"""Redirect targets that lead away from this site, and the URL that a browser makes of each."""

import re
from urllib.parse import urljoin

from .site import PUBLIC_URL

BAIT = "evil.example"
PREFIXES = ["//", "///", "////", "/\\", "\\\\", "\\/", "/\t/", "/\n/", "/\r\n/", "\t//", " //", "\x01//"]
PREFIXES += ["\x0b\\\\", "\u00a0//", "https:", "https:/", "https:///", "https://", "HTTPS://", "https:\\\\"]
PREFIXES += ["ht\ntps://", "http:", "ftp://", f"{PUBLIC_URL}@", f"{PUBLIC_URL}.", f"{PUBLIC_URL}\\@"]
PREFIXES += ["//127.0.0.1:5000\\.", "%2f%2f", "/%2f", "/%5c", "/%09/", "%0d%0aLocation:%20//", "/.//", ".//"]
PREFIXES += ["/x/..//", "/./\\", "／／", "@", "."]
HOSTILE_URLS = [
    *(prefix + BAIT for prefix in PREFIXES),
    f"http://{BAIT}\\{PUBLIC_URL}",
    f"http://{BAIT}#{PUBLIC_URL}",
    f"//{BAIT}:80\\@127.0.0.1:5000",
    "//evil。example",
]
HOSTILE_URLS += ["javascript:alert(1)", "JaVa\tScRiPt:alert(1)", "\x01javascript:alert(1)"]
HOSTILE_URLS += ["data:text/html,x", "vbscript:x"]


def browser_target(location: str) -> str:
    """Resolve a Location as the URL standard does: strip control characters, read a backslash as a slash."""
    location = re.sub(r"[\t\r\n]", "", location.strip("".join(map(chr, range(33)))))
    before, mark, after = re.split(r"([?#]|$)", location, maxsplit=1)
    path = re.sub(r"^/{3,}", "//", before.replace("\\", "/"))
    return urljoin(f"{PUBLIC_URL}/login", f"{path}{mark}{after}")
