"""The documented nginx configurations, with ports and a certificate of a test."""

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

    The error log is beside it. `http` is the port without TLS, if a test uses it. `application` is that of an
    application; then the configuration is examples/proxy/nginx.conf.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        skip_or_fail("nginx is not installed (Debian: apt-get install nginx-light)")
    running: list[subprocess.Popen[bytes]] = []

    def start(port: int, behind: int, http: int | None = None, application: int | None = None) -> Path:
        log = tmp_path / "access.log"
        name, host = ("application", "app") if application else ("sparekey", "id")
        file = ROOT / ("examples/proxy/nginx.conf" if application else "docs/deploy/nginx.conf")
        replacements = {
            "listen 443": f"listen 127.0.0.1:{port}",
            "listen 80": f"listen 127.0.0.1:{http or free_port()}",
            f"server_name {host}.example.com": "server_name localhost",
            f"/etc/ssl/certs/{host}.example.com.pem": str(tmp_path / "tls.pem"),
            f"/etc/ssl/private/{host}.example.com.key": str(tmp_path / "tls.pem"),
            f"/var/log/nginx/{name}.log": str(log),
            "/var/log/nginx/error.log": str(tmp_path / "error.log"),
            "127.0.0.1:8000": f"127.0.0.1:{behind}",
            **({"127.0.0.1:9000": f"127.0.0.1:{application}"} if application else {}),
        }
        site = replaced(file, replacements)
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


def replaced(file: Path, replacements: dict[str, str]) -> str:
    """Return a documented configuration with the values of a test."""
    text = file.read_text()
    for documented, replacement in replacements.items():
        assert documented in text
        text = text.replace(documented, replacement)
    return text


def _answers(client: httpx.Client, url: str) -> bool:
    try:
        return client.get(url).status_code > 0
    except httpx.TransportError:
        return False
