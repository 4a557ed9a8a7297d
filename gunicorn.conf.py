"""gunicorn's configuration file. Worker and thread numbers belong on its command line."""

from __future__ import annotations

from typing import Any

# By default gunicorn takes SCRIPT_NAME and PATH_INFO from headers that any local client sends.
forwarder_headers = ""

# Sparekey does not use the control socket.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """Log the warnings of the checks, once for all workers."""
    if worker.age > 1:
        return
    from app.settings import advice, checks  # importable only in a worker

    size = advice.Server(
        processes=worker.cfg.workers,
        threads=worker.cfg.threads,
        forwarded_allow_ips=",".join(worker.cfg.forwarded_allow_ips),
    )
    with worker.wsgi.app_context():
        checks.log_warnings(size)
