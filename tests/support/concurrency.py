"""Other writers at a moment that a test chooses."""

import threading
from collections.abc import Callable
from typing import Any


def in_another_thread(act: Callable[[], Any]) -> None:
    """Run to the end in a thread, with a database session of its own."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def interrupt(monkeypatch: Any, owner: Any, name: str, act: Callable[[], Any], after: bool = False) -> None:
    """At the next call of a function, act in another thread: before it runs, or after."""
    function = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(owner, name, function)
        if not after:
            in_another_thread(act)
        result = function(*args, **kwargs)
        if after:
            in_another_thread(act)
        return result

    monkeypatch.setattr(owner, name, call)


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Call with each number below the count, in threads that begin together. Return the results in order."""
    start, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        start.wait()
        results[number] = act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
