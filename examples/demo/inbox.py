"""The demo's inbox: pages that show the mail on this machine.

RECOVERY_INBOX enables it and needs a public URL on this machine, because anyone who reads the inbox can take
over every account.
"""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, make_response, render_template
from flask.typing import ResponseReturnValue

from app.mail.backends import inbox_folder
from app.web import headers

pages = Blueprint("inbox", __name__, url_prefix="/inbox", template_folder="templates")

# Links in a mail open in a new tab, as in a mail program. No script runs. The page reads the mail's height.
SANDBOX = "allow-same-origin allow-popups allow-popups-to-escape-sandbox"
FRAME_CSP = f"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox {SANDBOX}"


@pages.get("/")
def index() -> ResponseReturnValue:
    newest_first = sorted(inbox_folder().glob("*.eml"), reverse=True)[:50]
    mails = [_read(path) for path in newest_first]
    return render_template("inbox.html", mails=mails)


@pages.get("/<int:number>")
def show(number: int) -> ResponseReturnValue:
    page = make_response(render_template("inbox_mail.html", mail=_read(_path(number))))
    page.headers["Content-Security-Policy"] = headers.policy({"frame-src": "'self'"})  # shows the HTML part
    return page


@pages.get("/<int:number>/html")
def html_part(number: int) -> ResponseReturnValue:
    """Return the HTML part alone, for the frame. With `_blank` its links leave the frame."""
    html = _read(_path(number))["html"].replace("<head>", '<head><base target="_blank">', 1)
    return Response(
        html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": FRAME_CSP}
    )


def _path(number: int) -> Path:
    path = inbox_folder() / f"{number}.eml"
    if not path.is_file():
        abort(404)
    return path


def _read(path: Path) -> dict[str, Any]:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    return {
        "number": path.stem,
        "subject": message["Subject"],
        "sender": message["From"],
        "recipient": message["To"],
        "at": parsedate_to_datetime(message["Date"]),
        "text": text.get_content() if text else "",
        "html": html.get_content() if html else "",
    }
