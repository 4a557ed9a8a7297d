"""The source of a request: the IP address by which rate limits count. No header of a client changes it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing

from .findings import KINDS
from .http_client import Client, NoResponse
from .scan import Check, Passed, Result, Scan, Skipped

POSTS_MAX = 80  # the default limit is 30, and each of two processes without Redis has its own count
REFUSALS = 5  # in a row: each process refuses this source
ROUNDS = 3  # of one request as another source and one as this source
SOURCE_HEADERS = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP", "CF-Connecting-IP")
HOPS_MAX = 5  # a proxy that is trusted but not there shifts the entries by one
LOOPBACK = ("127.0.0.2", "127.0.0.3")
FAMILIES = ("0.0.0.0", "::")  # noqa: S104  # IPv4 and IPv6: the server sees two addresses
SPOOFING, SHARING = "spoofed source addresses", "the sources of other visitors"
LIMIT_ENDED = "the period of the rate limit ended in the meantime; try again"


def check_sources(scan: Scan) -> Iterator[Result]:
    """Use up the rate limit of this source, and ask as other sources."""
    if not _use_up_limit(scan.client):
        reason = f"no rate limit refused {POSTS_MAX} requests; each process may count for itself"
        yield Skipped(f"{SPOOFING}, and {SHARING}", reason)
        return
    yield _check_spoofing(scan.client)
    yield _check_sharing(scan)


def _check_spoofing(client: Client) -> Result:
    is_believed = _passes_as_another(client, *SOURCE_HEADERS)
    if is_believed is None:
        return Skipped(SPOOFING, LIMIT_ENDED)
    if not is_believed:
        return Passed("Headers of a request do not change its source.")
    names = [name for name in SOURCE_HEADERS if _passes_as_another(client, name)]
    return KINDS["source-believed"].found(header=" or ".join(names or SOURCE_HEADERS))


def _check_sharing(scan: Scan) -> Result:
    """Ask from two addresses, of which at least one is not the scan's."""
    refused = []
    for address in LOOPBACK if scan.is_local else FAMILIES:
        scan.client.requests += 1
        try:
            with closing(scan.client.connecting_from(address)) as other:
                refused.append(_is_refused(other))
        except NoResponse:
            return Skipped(SHARING, "this machine reaches the deployment from one address only")
    if all(refused):
        return KINDS["source-shared"].found()
    if not _is_refused(scan.client):
        return Skipped(SHARING, LIMIT_ENDED)
    return Passed("Visitors with other addresses are other sources.")


def _use_up_limit(client: Client) -> bool:
    """True if the rate limits refuse this source now."""
    in_a_row = 0
    for _ in range(POSTS_MAX):
        in_a_row = in_a_row + 1 if _is_refused(client) else 0
        if in_a_row == REFUSALS:
            return True
    return False


def _passes_as_another(client: Client, *names: str) -> bool | None:
    """True if requests with these headers pass, and others are refused. None if the rate limit has ended."""
    for _ in range(ROUNDS):
        address = f"198.51.100.{secrets.randbelow(254) + 1}"  # no host has it (RFC 5737)
        values = {"Forwarded": f"for={address}", "X-Forwarded-For": ", ".join([address] * HOPS_MAX)}
        if _is_refused(client, {name: values.get(name, address) for name in names}):
            return False
        if not _is_refused(client):
            return None
    return True


def _is_refused(client: Client, headers: dict[str, str] | None = None) -> bool:
    """Send a request that counts and does nothing else."""
    json = {"Content-Type": "application/json", "Accept": "application/json"}
    return client.request("POST", "/reset", {**json, **(headers or {})}, b"{}").status == 429


CHECKS = [Check("Each visitor is one source.", check_sources)]
