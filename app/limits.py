"""Who may ask how often. A source is an address; more than a person needs is refused with 429."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask, current_app, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

PER_SOURCE = "30 per minute; 300 per hour"  # an office behind one address still gets through
UNLIMITED = ("security.logout",)  # whoever wants out gets out


def init_app(app: Flask) -> None:
    """Limit every POST of Flask-Security's, whatever features are on: each takes a guess or sends mail.

    A limiter of its own for each app, since it counts; in memory, so each process counts alone.
    """
    app.config["RATELIMIT_STORAGE_URI"] = "memory://"
    limiter = app.extensions["recovery_limiter"] = Limiter(get_remote_address, app=app)
    limit: Any = limiter.shared_limit(
        PER_SOURCE, scope="open posts", exempt_when=lambda: request.method != "POST"
    )
    rules = [rule for rule in app.url_map.iter_rules() if "POST" in (rule.methods or ())]
    for endpoint in {rule.endpoint for rule in rules if rule.endpoint.startswith("security.")}:
        if endpoint not in UNLIMITED:
            app.view_functions[endpoint] = limit(app.view_functions[endpoint])


def seconds_to_wait() -> int:
    """After a refusal: when the source may try again."""
    limit = current_app.extensions["recovery_limiter"].current_limit
    return max(1, round(limit.reset_at - time.time())) if limit else 60
