"""The demo's inbox: a mail backend that keeps mail on this machine, and the pages that show it.

Switched on by RECOVERY_INBOX, which needs a public URL on this machine: anyone who reads the inbox
can take over every account.
"""

from __future__ import annotations

import email
import email.policy
import time
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, abort, current_app, make_response, render_template
from flask.typing import ResponseReturnValue
from flask_mailman.backends.base import BaseEmailBackend

from app import headers
from app.letters import Mail

pages = Blueprint("inbox", __name__, url_prefix="/inbox", template_folder="templates")

# Links in a mail open in a new tab, as in a mail program; nothing in it runs.
FRAME_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)


class EmailBackend(BaseEmailBackend):  # type: ignore[misc]  # Flask-Mailman has no types
    """Writes each message to a file instead of sending it.

    Flask-Mailman's own file backend does not serve: it renders the message again, where ours are composed
    already, and it appends all messages of a connection to one log, which the pages would have to take apart.
    """

    connection = None

    def send_messages(self, email_messages: list[Mail]) -> int:
        folder = _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for message in email_messages:
            draft = folder / f"{time.time_ns()}.part"
            draft.write_bytes(message.data)
            draft.rename(draft.with_suffix(".eml"))  # never seen half written
        return len(email_messages)

    def abandon(self) -> None:
        """Nothing to end: a file takes no time."""


@pages.get("/")
def index() -> ResponseReturnValue:
    newest_first = sorted(_folder().glob("*.eml"), reverse=True)[:50]
    mails = [_read(path) for path in newest_first]
    return render_template("inbox.html", mails=mails)


@pages.get("/<int:number>")
def show(number: int) -> ResponseReturnValue:
    page = make_response(render_template("inbox_mail.html", mail=_read(_path(number))))
    page.headers["Content-Security-Policy"] = headers.policy({"frame-src": "'self'"})  # shows the HTML part
    return page


@pages.get("/<int:number>/html")
def html_part(number: int) -> ResponseReturnValue:
    """The HTML part alone, for the frame. `_blank` so that its links leave the frame."""
    html = _read(_path(number))["html"].replace("<head>", '<head><base target="_blank">', 1)
    return Response(
        html, content_type="text/html; charset=utf-8", headers={"Content-Security-Policy": FRAME_CSP}
    )


def _folder() -> Path:
    return Path(current_app.instance_path) / "inbox"


def _path(number: int) -> Path:
    path = _folder() / f"{number}.eml"
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
