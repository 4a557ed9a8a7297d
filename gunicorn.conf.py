"""What gunicorn must not do on its own, and what is said at its start; it reads this file by itself.

Sizes belong on its command line.
"""

from __future__ import annotations

from typing import Any

# By default it takes SCRIPT_NAME and PATH_INFO from headers of whoever connects from this machine.
forwarder_headers = ""

# A way in that nobody here uses.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Once, since all of them are alike: warn of what does not fit together."""
    if worker.age > 1:
        return
    from app.settings import advice, checks  # only a worker has loaded it

    size = advice.Server(
        processes=worker.cfg.workers,
        threads=worker.cfg.threads,
        forwarded_allow_ips=",".join(worker.cfg.forwarded_allow_ips),
    )
    with worker.wsgi.app_context():
        checks.warn(size)
