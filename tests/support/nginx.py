"""The documented nginx configurations, with ports and a certificate of a test."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from .servers import free_port, listening, skip_or_fail
from .site import ROOT


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = made.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    return made


@pytest.fixture
def nginx(authority: trustme.CA, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Starts nginx with the authority's certificate on a port, before a server on another. Returns its access log.

    The error log is beside it. `http` is the port without TLS, if a test uses it. `application` is that of an
    application; then the configuration is examples/proxy/nginx.conf.
    """
    missing = "nginx is not installed (Debian: apt-get install nginx-light)"
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or skip_or_fail(missing)
    running = ExitStack()

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
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
        main = f"events {{}} pid {tmp_path}/pid; error_log {tmp_path}/error.log;"
        (tmp_path / "nginx.conf").write_text(f"{main} http {{ {places}\n{site}\n}}")
        command = [program, "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path), "-g", "daemon off;"]
        running.enter_context(listening(command, port))
        return log

    with running:
        yield start


def replaced(file: Path, replacements: dict[str, str]) -> str:
    """Return a documented configuration with the values of a test."""
    text = file.read_text()
    for documented, replacement in replacements.items():
        assert documented in text
        text = text.replace(documented, replacement)
    return text
