"""The files of SQLite: nobody else on the machine reads them."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from support.admin import Admin
from support.site import Site, fill


@pytest.mark.requirement("R61")
def test_database_is_created_for_its_owner_alone_whatever_the_umask(make_site: Any, tmp_path: Path) -> None:
    path = tmp_path / "sparekey.db"
    umask = os.umask(0o022)
    try:
        site: Site = make_site(SQLALCHEMY_DATABASE_URI=fill(f"sqlite:///{path}"))
        assert site.visitor().open("/readyz").status_code == 503  # it has opened the database
    finally:
        os.umask(umask)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("sparekey.db*")}
    assert modes == dict.fromkeys(("sparekey.db", "sparekey.db-wal", "sparekey.db-shm"), 0o600)
    admin = Admin(f"sqlite:///{path}", mail_port=1)
    assert "database-readable" not in admin.types("check", "--deploy").stdout
    path.chmod(0o640)
    assert f"database-readable  {path}" in admin.types("check", "--deploy").stdout
