"""The doctor's slow clients, at real servers."""

from collections.abc import Callable

import pytest
from support.admin import Admin
from support.servers import free_port

from doctor import http_client, slow_clients
from doctor.findings import Finding
from doctor.scan import Scan


def findings(admin: Admin, *options: str) -> list[str]:
    try:
        admin.serves(1, None, *options)
        results = slow_clients.CHECKS[0].run(Scan(http_client.Client(admin.base)))
    finally:
        admin.stops()
    return [result.id for result in results if isinstance(result, Finding)]


@pytest.mark.requirement("R32")
def test_slow_clients_are_found_at_threads_that_read_and_not_at_the_default(
    database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "SECONDS", 3)
    admin = Admin(database(), free_port())
    assert findings(admin) == []
    assert findings(admin, "--worker-class", "gthread", "--graceful-timeout", "1") == ["slow-clients"]
