"""The files of SQLite: nobody else on the machine reads them."""

import os
import stat
from pathlib import Path

import httpx
import pytest
from support.admin import Admin
from support.site import fill


@pytest.mark.requirement("R61")
def test_database_is_created_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        path = tmp_path / "sparekey.db"
        fill(f"sqlite:///{path}")
        admin = Admin(f"sqlite:///{path}", mail_port=1)
        admin.serves()
        try:
            assert httpx.get(f"{admin.base}/readyz").status_code == 503  # it has opened the database
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("sparekey.db*")}
        finally:
            admin.stops()
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(("sparekey.db", "sparekey.db-wal", "sparekey.db-shm"), 0o600)


def test_check_names_a_database_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "sparekey.db"
    admin = Admin(fill(f"sqlite:///{path}"), mail_port=1)
    assert "database-readable" not in admin.types("check", "--deploy").stdout
    path.chmod(0o640)
    assert f"database-readable  {path}" in admin.types("check", "--deploy").stdout
