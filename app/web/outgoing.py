"""HTTP calls to other services. Each ends at a deadline, and follows no redirect."""

import threading
from concurrent.futures import Future
from urllib.error import HTTPError
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request, UnknownHandler

CALLS_MAX = 128  # to one host at a time, as many as a process serves; a server's drip outlives its deadline


def call(request: Request, seconds: float, bytes_max: int = 0, accepted: range = range(200, 300)) -> bytes:
    """Return the answer's body, or b"" without `bytes_max`.

    Raises OSError, such as TimeoutError, or HTTPError for a status that is not accepted, or HTTPException.
    """
    name, answer = f"call to {request.host}", Future[bytes]()
    if sum(thread.name == name for thread in threading.enumerate()) >= CALLS_MAX:
        raise TimeoutError("earlier calls have not ended")

    def fetch() -> None:
        try:
            answer.set_result(_fetch(request, max(seconds, 0.001), bytes_max, accepted))
        except Exception as error:  # raised again where the result is read
            answer.set_exception(error)

    # A resolver has no timeout, a drip of bytes prevents read timeouts, and no process should wait for them.
    threading.Thread(target=fetch, name=name, daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TimeoutError("the answer took too long") from None


def _fetch(request: Request, seconds: float, bytes_max: int, accepted: range) -> bytes:
    opener = OpenerDirector()
    for handler in (ProxyHandler, HTTPHandler, HTTPSHandler, UnknownHandler):  # none follows a redirect
        opener.add_handler(handler())
    with opener.open(request, timeout=seconds) as answer:
        if answer.status not in accepted:
            raise HTTPError(request.full_url, answer.status, answer.reason, answer.headers, None)
        body: bytes = answer.read(bytes_max) if bytes_max else b""
        if bytes_max and answer.length:
            raise OSError("the answer is cut off, or too long")
        return body
