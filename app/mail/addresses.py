"""Mail addresses as a mail server and a header take them."""

from email.header import Header
from email.utils import formataddr, parseaddr

import idna

ENCODED_WORD_MAX = 75  # RFC 2047 §2


def with_ascii_domain(address: str) -> str:
    """Return an address with its domain in ASCII, which every relay accepts."""
    local, _, domain = address.rpartition("@")
    if domain.isascii():
        return address
    return f"{local}@{idna.encode(domain, uts46=True).decode()}"


def in_header(header: str, mailbox: str) -> str:
    """Return an address of the settings for a header, its name in short encoded words. "" stays empty."""
    name, address = parseaddr(mailbox)
    encoded_name = Header(name, maxlinelen=ENCODED_WORD_MAX, header_name=header).encode(linesep="")
    return formataddr((encoded_name, with_ascii_domain(address)))
