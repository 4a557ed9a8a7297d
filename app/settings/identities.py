"""Identity kinds: the names and tables of SECURITY_USER_IDENTITY_ATTRIBUTES, in Flask-Security's form."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator

from .types import Line, Reference, parse_json_text

ShippedKind = Literal["email", "username", "us_phone_number"]
SHIPPED: tuple[str, ...] = get_args(ShippedKind)  # every account has a column for each
NAME = re.compile("(?!password)[a-z][a-z0-9_]{0,39}")
CASE_INSENSITIVE = ("email", "username")  # those with an index on lower()


class IdentityKind(BaseModel, frozen=True, extra="forbid"):
    """How identities of one kind are recognized, stored and named."""

    mapper: Reference | None = None
    case_insensitive: bool | None = None
    pattern: re.Pattern[str] | None = None
    normalize: Literal["upper", "lower", "digits"] | None = None
    label: Line = ""


def as_table(value: Any) -> Any:
    """Return a table of the kinds by name, in the order of the list."""
    items = value if isinstance(value := parse_json_text(value), list) else []
    tables = [{item: {}} if isinstance(item, str) else item for item in items]
    if not tables or not all(isinstance(table, dict) and len(table) == 1 for table in tables):
        raise ValueError(f"give a list of names ({', '.join(SHIPPED)}), and of tables with one name each")
    kinds = {name: kind for table in tables for name, kind in table.items()}
    if len(kinds) < len(tables):
        raise ValueError("each at most once")
    return kinds


def check_kinds(kinds: dict[str, IdentityKind]) -> dict[str, IdentityKind]:
    for name, kind in kinds.items():
        ignores_case, own = kind.case_insensitive, kind.pattern or kind.normalize
        if name in SHIPPED and (own or ignores_case not in (None, name in CASE_INSENSITIVE)):
            raise ValueError(f"{name}: only the mapper and the label of this kind can be changed")
        if name not in SHIPPED and bool(kind.mapper) == bool(kind.pattern):
            raise ValueError(f"{name}: give a mapper or a pattern; Sparekey's kinds are {', '.join(SHIPPED)}")
        if (kind.mapper and kind.normalize) or (kind.pattern and ignores_case is not None):
            raise ValueError(f"{name}: case_insensitive is for a mapper, and normalize for a pattern")
    return kinds


IdentityKinds = Annotated[
    dict[str, IdentityKind],
    BeforeValidator(as_table, json_schema_input_type=list[ShippedKind | dict[str, IdentityKind]]),
    AfterValidator(check_kinds),
]
