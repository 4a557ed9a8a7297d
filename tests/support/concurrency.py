"""A second writer at a moment that a test chooses."""

import threading
from collections.abc import Callable
from typing import Any


def in_another_thread(act: Callable[[], Any]) -> None:
    """Run to the end in a thread, with a database session of its own."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
