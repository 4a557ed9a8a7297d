"""The sample app's server: its files, its index for every other path, and the address of Sparekey.

python examples/spa/serve.py --port 5001 --api http://127.0.0.1:5000
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CLIENT = "spa"  # its name in RECOVERY_CLIENTS


class SampleApp(SimpleHTTPRequestHandler):
    """Static files, with the index for the app's own paths."""

    def __init__(self, *args: Any, api: str, **kwargs: Any) -> None:
        self.api = api
        super().__init__(*args, directory=str(HERE), **kwargs)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/config.js":
            return self._send_config()
        if Path(path).suffix not in (".js", ".css"):
            self.path = "/index.html"
        return super().do_GET()

    def end_headers(self) -> None:
        policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src {self.api}"
        )
        self.send_header("Content-Security-Policy", f"{policy}; base-uri 'none'; frame-ancestors 'none'")
        self.send_header("Referrer-Policy", "no-referrer")  # its first URL contains the token
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Log nothing, because paths contain tokens."""

    def _send_config(self) -> None:
        lines = f"export const API = {json.dumps(self.api)};\nexport const CLIENT = {json.dumps(CLIENT)};\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript")
        self.end_headers()
        self.wfile.write(lines.encode())


def make_server(port: int, api: str) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(("127.0.0.1", port), partial(SampleApp, api=api))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=5001)
    parser.add_argument("--api", default="http://127.0.0.1:5000")
    arguments = parser.parse_args()
    with make_server(arguments.port, arguments.api) as server:
        server.serve_forever()
