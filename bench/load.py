"""A client that costs next to nothing: some connections, each with one request at a time.

It writes prepared bytes in one thread, because on a small machine a client's work is missing to the server.
"""

import asyncio
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
PATIENCE_SECONDS = 30.0


@dataclass
class Load:
    """The answers."""

    waits: list[float] = field(default_factory=list)  # milliseconds
    statuses: Counter[int] = field(default_factory=Counter)  # 0: the server hung up
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        return len(self.waits) / self.seconds


def p99(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=100, method="inclusive")[98] if len(waits) > 1 else waits[0]


def send(port: int, requests: Iterator[bytes], connections: int = 8, seconds: float = 5.0) -> Load:
    """Send requests for so many seconds, or until there are none.

    Answers under way at the end are waited for and count, or a server that hangs would look fast.
    """
    load, start = Load(), time.perf_counter()

    async def all_lines() -> None:
        lines = [_line(port, requests, load, start + seconds) for _ in range(connections)]
        await asyncio.wait_for(asyncio.gather(*lines), seconds + PATIENCE_SECONDS)

    asyncio.run(all_lines())
    load.seconds = time.perf_counter() - start
    return load


async def _line(port: int, requests: Iterator[bytes], load: Load, until: float) -> None:
    writer = None
    while time.perf_counter() < until and (request := next(requests, None)):
        if writer is None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        start = time.perf_counter()
        writer.write(request)
        status, closes = await _answer(reader)
        load.waits.append((time.perf_counter() - start) * 1000)
        load.statuses[status] += 1
        if closes:
            writer.close()
            writer = None
    if writer:
        writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Return the status, and True if the connection ends with this answer."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        await (reader.readexactly(int(length[1])) if length else reader.read())
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, True
    return int(head[9:12]), length is None or bool(CLOSES.search(head))
