"""The documented nginx configuration, with ports and a certificate of a test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from .servers import free_port, skip_or_fail, wait_until
from .site import ROOT


@contextmanager
def nginx(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Yield a function that starts nginx on a port, before a server on another, and returns its access log.

    The error log is beside it. `http` is the port without TLS, if a test uses it.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        skip_or_fail("nginx is not installed (Debian: apt-get install nginx-light)")
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, behind: int, http: int | None = None) -> Path:
        log = tmp_path / "access.log"
        site = (ROOT / "docs" / "deploy" / "nginx.conf").read_text()
        for documented, replacement in {
            "listen 443": f"listen 127.0.0.1:{port}",
            "listen 80": f"listen 127.0.0.1:{http or free_port()}",
            "server_name id.example.com": "server_name localhost",
            "/etc/ssl/certs/id.example.com.pem": str(tmp_path / "tls.pem"),
            "/etc/ssl/private/id.example.com.key": str(tmp_path / "tls.pem"),
            "/var/log/nginx/sparekey.log": str(log),
            "/var/log/nginx/error.log": str(tmp_path / "error.log"),
            "127.0.0.1:8000": f"127.0.0.1:{behind}",
        }.items():
            assert documented in site
            site = site.replace(documented, replacement)
        places = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        whole = (
            f"events {{}} pid {tmp_path}/pid; error_log {tmp_path}/error.log; http {{ {places}\n{site}\n}}"
        )
        (tmp_path / "nginx.conf").write_text(whole)
        command = [program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-g", "daemon off;"]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        with httpx.Client(verify=False) as client:  # noqa: S501  # its certificate is made here
            url = f"https://localhost:{port}/"
            wait_until(lambda: _answers(client, url), running[-1], "nginx")
        return log

    try:
        yield start
    finally:
        for process in running:
            process.terminate()
            process.wait(timeout=20)


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code > 0
    except httpx.TransportError:
        return False
