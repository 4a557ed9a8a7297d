"""The headers of every answer."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, request

from .settings import Settings

HSTS = "max-age=31536000; includeSubDomains"  # one year

CSP = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "frame-src": "'self'",  # the demo's inbox shows a mail in a sandboxed frame
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


def init_app(app: Flask, settings: Settings) -> None:
    by_tls = urlsplit(settings.RECOVERY_PUBLIC_URL).scheme == "https"
    policy = "; ".join(f"{directive} {sources}" for directive, sources in CSP.items())

    @app.after_request
    def add_headers(response: Response) -> Response:
        headers = response.headers
        headers.setdefault("Content-Security-Policy", policy)
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Cache-Control"] = "max-age=3600" if request.endpoint == "static" else "no-store"
        # no-referrer only where the URL holds a token: with it, browsers send "Origin: null" with
        # our own forms, and Flask-WTF refuses those on https.
        headers["Referrer-Policy"] = "no-referrer" if _token_in_url() else "same-origin"
        if by_tls:
            headers["Strict-Transport-Security"] = HSTS
        return response


def _token_in_url() -> bool:
    token = (request.view_args or {}).get("token")
    return token is not None and not str(token).startswith("~")
