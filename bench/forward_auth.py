"""How long does a reverse proxy wait for /auth? `bench/forward_auth.py`, on SQLite and on PostgreSQL.

A proxy asks one gunicorn process for a session, a token and no sign-in, one at a time: forward authentication
adds this time to each request of an application. Then eight ask at once.
"""

from __future__ import annotations

import sys
from itertools import repeat

import databases
import load
import report
import stage
from peer import SPAREKEY_JSON, raw
from peers import alike
from sink import Relay
from stage import say

ACCOUNTS, SECONDS = 10_000, 4.0
P50_MAX = 3.0  # milliseconds
ENVIRON = {"FLASK_RECOVERY_AUTH": "id"}
STATUS = {"session": 200, "token": 200, "none": 401}


def main() -> int:
    stage.prepare()
    rows: list[list[str]] = []
    slowest = 0.0
    for name in databases.available():
        with databases.started(name) as engine, Relay() as relay:
            filled = stage.fill(SPAREKEY_JSON, engine.create(), ACCOUNTS)
            with stage.running(SPAREKEY_JSON, filled, relay.port, has_worker=False, **ENVIRON) as site:
                for kind, request in requests_of(site).items():
                    say(f"{name}, {kind}")
                    load.send(site.port, repeat(request), 1, 1.0)  # loads and compiles
                    alone, crowd = (load.send(site.port, repeat(request), n, SECONDS) for n in (1, 8))
                    assert {*alone.statuses, *crowd.statuses} == {STATUS[kind]}, (alone.statuses, request)
                    slowest = max(slowest, alone.median)
                    figures = [alone.median, alone.p99, crowd.median, crowd.p99]
                    cells = [report.number(milliseconds, 2) for milliseconds in figures]
                    rows.append([name, kind, *cells, f"{crowd.per_second:,.0f}"])
    print(report.table(["", "signed in by", "p50", "p99", "p50 of 8", "p99 of 8", "a second"], rows))
    print(f"Milliseconds. The p50 of one proxy must be at most {P50_MAX}.")
    return int(slowest > P50_MAX)


def requests_of(site: stage.Site) -> dict[str, bytes]:
    """Return a proxy's requests, as they travel: for a session, for a token, and for neither."""
    login = {"identity": alike.known(1)[0], "password": alike.PASSWORD}
    with site.client() as client:
        answer = client.post("/login?include_auth_token", json=login)
        token = answer.json()["response"]["user"]["authentication_token"]
        requests = {"session": client.build_request("GET", "/auth")}
    with site.client() as client:
        requests["token"] = client.build_request("GET", "/auth", headers={"Authentication-Token": token})
        requests["none"] = client.build_request("GET", "/auth")
    return {kind: raw(request) for kind, request in requests.items()}


if __name__ == "__main__":
    sys.exit(main())
