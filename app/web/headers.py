"""The headers of every answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import Flask, Response, g, request

from ..settings.schema import Settings

HSTS = "max-age=31536000; includeSubDomains"  # one year
CSP = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self'",
    "font-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# What single pages need besides.
CSP_OF = {
    "security.two_factor_setup": {"img-src": "'self' data:"},  # a QR code
    "security.us_setup": {"img-src": "'self' data:"},
}
KEPT = ("static", "brand.style", "brand.logo")  # by browsers, for an hour
FEATURES = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"


def init_app(app: Flask, settings: Settings) -> None:
    by_tls = urlsplit(settings.RECOVERY_PUBLIC_URL).scheme == "https"
    app.jinja_env.globals["csp_nonce"] = nonce

    @app.after_request
    def add_headers(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Content-Security-Policy", policy(CSP_OF.get(request.endpoint or "", {})))
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Permissions-Policy"] = FEATURES
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        is_kept = request.endpoint in KEPT and response.status_code < 400
        headers["Cache-Control"] = "max-age=3600" if is_kept else "no-store"
        # no-referrer only where the URL holds a token: with it, browsers send "Origin: null" with
        # our own forms, and Flask-WTF refuses those on https.
        headers["Referrer-Policy"] = "no-referrer" if _token_in_url() else "same-origin"
        if by_tls:
            headers["Strict-Transport-Security"] = HSTS
        return response


def nonce() -> str:
    """For a template: what a script of this very page carries. Pages without one allow no script at all."""
    if "csp_nonce" not in g:
        g.csp_nonce = secrets.token_urlsafe(16)
    made: str = g.csp_nonce
    return made


def policy(more: Mapping[str, str]) -> str:
    """Return the Content-Security-Policy of this answer, with the directives in `more` added or replaced."""
    scripts = {"script-src": f"'nonce-{g.csp_nonce}'", "connect-src": "'self'"} if "csp_nonce" in g else {}
    directives = {**CSP, **more, **scripts}
    return "; ".join(f"{directive} {sources}" for directive, sources in directives.items())


def _token_in_url() -> bool:
    token = (request.view_args or {}).get("token")
    return token is not None and not str(token).startswith("~")
