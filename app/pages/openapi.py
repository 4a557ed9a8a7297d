"""The OpenAPI description of the JSON API, served at /openapi.json. A test compares the app with it."""

import json
from pathlib import Path
from typing import Any

from ..settings.schema import Settings


def document(settings: Settings) -> dict[str, Any]:
    """Return openapi.json with the address, features and limits of this deployment."""
    description: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text())
    description["info"]["title"] = f"{settings.RECOVERY_SITE_NAME}: password recovery"
    description["servers"] = [{"url": settings.RECOVERY_PUBLIC_URL}]
    if not settings.SECURITY_REGISTERABLE:
        del description["paths"]["/register"]
    if not settings.RECOVERY_CODE:
        del description["paths"]["/reset/code"]
    if not settings.RECOVERY_AUTH:
        del description["paths"]["/auth"], description["paths"]["/auth/redirect"]
    if settings.RECOVERY_ACCOUNTS:
        paths = description["paths"].items()
        description["paths"] = {
            path: item for path, item in paths if path.startswith(("/reset", "/challenge"))
        }
    schemas = description["components"]["schemas"]
    shortest, longest = settings.SECURITY_PASSWORD_LENGTH_MIN, settings.RECOVERY_PASSWORD_LENGTH_MAX
    schemas["Password"]["description"] = f"{shortest} to {longest} characters"
    schemas["IdentityKind"]["enum"] = kinds = [*settings.SECURITY_USER_IDENTITY_ATTRIBUTES]
    if not settings.RECOVERY_ACCOUNTS:  # in an application's table, one may fit several
        schemas["Identity"]["description"] += f" Of {', '.join(kinds)}, the first that fits is looked up."
    schemas["Client"]["enum"] = [*settings.RECOVERY_CLIENTS, "browser", "default"]
    schemas["Language"]["enum"] = ["", *settings.RECOVERY_LANGUAGES]
    return description
