"""An application that knows nothing of Sparekey. It shows each request, and whose it is by its headers.

python examples/proxy/application.py --port 9000
"""

from __future__ import annotations

import argparse
import json
from typing import Any
from urllib.parse import unquote
from wsgiref.simple_server import make_server

# The headers Remote-User, Remote-Email and Remote-Groups, and also Remote_User, if the proxy lets it through.
HEADERS = {"account": "HTTP_REMOTE_USER", "email": "HTTP_REMOTE_EMAIL", "groups": "HTTP_REMOTE_GROUPS"}


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    answer = {
        "path": f"{environ['PATH_INFO']}?{environ['QUERY_STRING']}",
        "user": {name: unquote(environ.get(header, "")) for name, header in HEADERS.items()},
        "posted": environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"] or 0)).decode(),
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    # On this machine only, because it believes the headers.
    with make_server("127.0.0.1", parser.parse_args().port, application) as server:
        server.serve_forever()
