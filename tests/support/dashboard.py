"""Draws the picture in docs/operations.md: a minute of a deployment, from its /metrics alone.

It has two web processes, a worker and a slow relay. Users request links and set passwords, once in a burst.
"""

import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from html import escape
from pathlib import Path

import httpx
from playwright.sync_api import Browser
from support.admin import Admin
from support.mailbox import Mailbox, link_in, listening
from support.metrics import Metrics, parse_metrics
from support.servers import free_port
from support.site import fill

SECONDS, ACCOUNTS, TOKEN = 60, 60, "dashboard-7fK2mQ9xW4nR8sT3vY6z"
EVENTS, DELIVERIES = "sparekey_events_last_hour", "sparekey_deliveries_last_hour"
FUNNEL = {
    "requested": ("requested", "reset_instructions"), "mailed": ("mail_sent", "reset_instructions"),
    "opened": ("opened", ""), "redeemed": ("redeemed", ""),
}  # fmt: skip
BLUE, RED, GREEN = "#2f6fb0", "#b3372f", "#3d8361"
LINES = {"untried": BLUE, "retried": "#c07a1b", "given_up": RED}
PAGE = """<!doctype html><meta charset="utf-8"><style>
body{{margin:0;padding:24px;font:14px system-ui,sans-serif;color:#1c2530;background:#eef1f4}}
main{{display:grid;grid-template-columns:1fr 1fr;gap:16px}}
section{{background:#fff;border-radius:8px;padding:14px 18px}}
h2{{font-size:15px;margin:0 0 2px}} p{{margin:0 0 10px;color:#5b6875;font-size:12px}}
svg{{display:block;width:100%}} text{{font:12px system-ui,sans-serif;fill:#1c2530}}
header{{display:flex;gap:28px;margin:0 0 16px}} header b{{font-size:22px;display:block}}
</style><header>{tiles}</header><main>{panels}</main>"""


def draw(browser: Browser, to: Path) -> None:
    moments = list(watch_a_minute())
    page = browser.new_page(viewport={"width": 1180, "height": 400})
    page.set_content(as_page(moments))
    page.screenshot(path=to, full_page=True)


def watch_a_minute() -> Iterator[Metrics]:
    slow, headers = Mailbox(free_port(), delay={"DATA": 0.05}), {"Authorization": f"Bearer {TOKEN}"}
    with tempfile.TemporaryDirectory() as folder, listening(slow) as box:
        uri = fill(f"sqlite:///{folder}/dashboard.db")
        add_people(uri.removeprefix("sqlite:///"))
        admin = Admin(uri, box.port, FLASK_RECOVERY_METRICS_TOKEN=TOKEN)
        try:
            admin.serves(workers=2)
            admin.starts("manage.py", "worker")
            with httpx.Client(base_url=admin.base, timeout=30) as client:
                for second in range(SECONDS):
                    act(client, box, second)
                    yield parse_metrics(client.get("/metrics", headers=headers).text)
                    time.sleep(0.5)
        finally:
            admin.stops()


def add_people(path: str) -> None:
    copy = "INSERT INTO user (email, password, active, fs_uniquifier) SELECT ?, password, 1, ? FROM user WHERE id = 1"
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany(copy, ((f"u{number}@example.com", f"u{number}") for number in range(ACCOUNTS)))


def act(client: httpx.Client, box: Mailbox, second: int) -> None:
    """Request links, and use those that were mailed, with mistakes. After a third of the time, everybody asks twice,
    and the relay refuses two recipients from then on.
    """
    dice, is_burst = random.Random(second), second == SECONDS // 3
    if is_burst:
        box.refuse_only |= {"u7@example.com": "451 later", "u8@example.com": "550 5.1.1 no such mailbox"}
    for number in range(2 * ACCOUNTS) if is_burst else dice.sample(range(ACCOUNTS * 5 // 4), 4):
        client.post("/reset", json={"identity": f"u{number % ACCOUNTS if is_burst else number}@example.com"})
    mails, box.mails[:] = list(box.mails), []
    for mail in dice.sample(mails, min(len(mails), 8)):
        good = f"a password of {dice.random()}"
        ways = (["too short", good], ["passwordpassword", good], [good, good], [good], [good], [])
        with suppress(AssertionError):  # a notice has no link
            link = link_in(mail)
            client.get(link, headers={"Accept": "application/json"})
            for password in dice.choice(ways):
                client.post(link, json={"password": password})


def as_page(moments: list[Metrics]) -> str:
    last = moments[-1]
    problems = sum(value for label, value in last.items() if label[0] == "sparekey_problem")
    tiles = {
        "database": "up" if last["sparekey_database_up",] else "away",
        "workers": f"{last['sparekey_workers',]:.0f}",
        "problems": f"{problems:.0f}",
        "waiting mails": f"{last['sparekey_mails', 'untried'] + last['sparekey_mails', 'retried']:.0f}",
        "dead letters": f"{last['sparekey_mails', 'given_up']:.0f}",
    }
    refused = {
        label[2]: n for label, n in last.items() if label[1:2] in (("refused",), ("password_refused",))
    }
    refusals = {name: n for name, n in sorted(refused.items(), key=lambda item: -item[1]) if n}
    panels = {
        "From request to new password": (EVENTS, bars({name: last[EVENTS, *of] for name, of in FUNNEL.items()})),
        "Refused": (f'{EVENTS}{{kind=~"refused|password_refused"}}', bars(refusals, RED)),
        "Waiting mails": ("sparekey_mails, each second", lines(moments)),
        "Time from request to relay": (f"{DELIVERIES}, reset instructions", bars(delivery(last), GREEN)),
    }  # fmt: skip
    return PAGE.format(
        tiles="".join(f"<div>{escape(name)}<b>{escape(value)}</b></div>" for name, value in tiles.items()),
        panels="".join(
            f"<section><h2>{title}</h2><p>{escape(metric)}</p>{drawing}</section>"
            for title, (metric, drawing) in panels.items()
        ),
    )


def delivery(last: Metrics) -> dict[str, float]:
    """Return how many mails took so long. A bucket of the metric also counts the mails of those below."""
    kind = (DELIVERIES, "reset_instructions")
    buckets = sorted((float(label[1]), n) for label, n in last.items() if label[::2] == kind)
    rows, below = {}, 0.0
    for bound, upto in buckets:
        rows[f"≤ {bound:g} s"] = upto - below
        below = upto
    longest = max((number for number, many in enumerate(rows.values()) if many), default=0)
    return dict(list(rows.items())[: max(longest + 2, 5)])


def bars(rows: dict[str, float], color: str = BLUE) -> str:
    most = max(rows.values(), default=1) or 1
    drawn = [
        f'<text x="0" y="{y + 17}">{escape(name)}</text>'
        f'<rect x="170" y="{y}" width="{max(290 * value / most, 1):.0f}" height="24" fill="{color}" rx="3"/>'
        f'<text x="{178 + 290 * value / most:.0f}" y="{y + 17}">{value:.0f}</text>'
        for y, (name, value) in zip(range(4, 1000, 34), rows.items(), strict=False)
    ]
    return f'<svg viewBox="0 0 510 {len(rows) * 34 + 6}">{"".join(drawn)}</svg>'


def lines(moments: list[Metrics]) -> str:
    most = max(moment["sparekey_mails", state] for moment in moments for state in LINES) or 1
    drawn = [f'<path d="M30 8V200H505" fill="none" stroke="#aab4be"/><text x="0" y="16">{most:.0f}</text>']
    for number, (state, color) in enumerate(LINES.items()):
        points = " ".join(
            f"{30 + 475 * at / (len(moments) - 1):.1f},{200 - 190 * moment['sparekey_mails', state] / most:.1f}"
            for at, moment in enumerate(moments)
        )
        drawn.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>')
        drawn.append(f'<rect x="330" y="{14 + 20 * number}" width="12" height="12" fill="{color}"/>')
        drawn.append(f'<text x="350" y="{25 + 20 * number}">{state.replace("_", " ")}</text>')
    return f'<svg viewBox="0 0 510 210">{"".join(drawn)}</svg>'
