"""Security headers of every response."""

import secrets

from flask import Flask, Response, g, request

from ..settings.schema import Settings
from .clients import form_targets
from .return_to import return_url

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
PAGES_WITH_QR_CODE = ("security.two_factor_setup", "security.us_setup")
CACHEABLE = ("static", "brand.style", "brand.logo")
PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"


def init_app(app: Flask, settings: Settings) -> None:
    """Add the headers to every response of the app."""
    is_https = settings.RECOVERY_PUBLIC_URL.startswith("https:")
    own = {name: view for name, view in settings.library.items() if name not in settings.spa_views}
    app.jinja_env.globals["csp_nonce"] = nonce

    @app.after_request
    def add_headers(response: Response) -> Response:
        headers = response.headers
        # Chromium checks where the redirect after a form leads, too.
        url = return_url() if (request.endpoint or "").startswith("security.") else None
        forms = {"form-action": form_targets(own, {"return_view": url})}
        images = {"img-src": "'self' data:"} if request.endpoint in PAGES_WITH_QR_CODE else {}
        headers.setdefault("Content-Security-Policy", policy(forms | images))
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Permissions-Policy"] = PERMISSIONS
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        is_cacheable = request.endpoint in CACHEABLE and response.status_code < 400
        headers["Cache-Control"] = "max-age=3600" if is_cacheable else "no-store"
        # no-referrer only where the URL holds a token (a handle starts with ~). With no-referrer, browsers
        # send "Origin: null" with our own forms, and Flask-WTF refuses those on https.
        holds_token = not str((request.view_args or {}).get("token", "~")).startswith("~")
        headers["Referrer-Policy"] = "no-referrer" if holds_token else "same-origin"
        if is_https:
            headers["Strict-Transport-Security"] = HSTS
        return response


def nonce() -> str:
    """Return the nonce of this page's scripts. A page that never calls this function allows no script."""
    return str(g.setdefault("csp_nonce", secrets.token_urlsafe(16)))


def policy(more: dict[str, str]) -> str:
    """Return this response's Content-Security-Policy. The directives in `more` are added or replaced."""
    scripts = {"script-src": f"'nonce-{g.csp_nonce}'", "connect-src": "'self'"} if "csp_nonce" in g else {}
    return "; ".join(f"{directive} {sources}" for directive, sources in {**CSP, **more, **scripts}.items())
