"""The types of settings, as pydantic annotations with a description for `config explain`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from .durations import PATTERN, parse_duration, positive
from .urls import client_url, database_uri, host, origin, public_url, storage_uri
from .validators import (
    MAKE_ONE,
    SECRET_LENGTH_MIN,
    argon2_options,
    breach_check,
    certificates,
    directory,
    dns_label,
    language,
    not_bool,
    not_empty,
    one_line,
    parse_json_text,
    picture,
    rates,
    readable_file,
    region,
    sender,
    strong_secret,
    time_zone,
)

IDENTITIES = ("email", "username", "us_phone_number")  # what an account may be asked for by
# What pydantic finds, in plain words.
WORDS = {
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "string_type": "give text, in quotes",
    "list_type": "give a list",
    "dict_type": "give a table",
    "missing": "needed",
    "extra_forbidden": "unknown setting",
    "literal_error": "give {expected}",
    "string_pattern_mismatch": "lower-case letters, digits, - and _, starting with a letter",
    "too_short": "give at least {min_length}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}


def in_words(detail: Any) -> str:
    """What one of pydantic's findings means."""
    words = WORDS.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))
    return words.format(**detail.get("ctx", {})) if detail["type"] in WORDS else words


def _says(words: str, **more: Any) -> Any:
    """What an admin's editor, and `config explain`, say about a kind."""
    return Field(description=words, json_schema_extra=more or None)


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{PATTERN}$",
            "description": 'a number and a unit, such as "30 minutes"',
        }
    ),
]
Pause = Annotated[Duration, AfterValidator(positive)]
Line = Annotated[str, AfterValidator(one_line), _says("one line of text")]
Name = Annotated[Line, AfterValidator(not_empty), _says("one line of text, not empty")]
Words = Annotated[list[str], BeforeValidator(parse_json_text), _says("a list of texts")]
Items = Annotated[list[Any], BeforeValidator(parse_json_text), _says("a list")]
Table = Annotated[dict[str, Any], BeforeValidator(parse_json_text), _says("a table")]
Secret = Annotated[
    str, AfterValidator(strong_secret), _says(f"at least {SECRET_LENGTH_MIN} random characters; {MAKE_ONE}")
]
SecretOrNothing = Annotated[
    str,
    AfterValidator(lambda value: value and strong_secret(value)),
    _says(f"at least {SECRET_LENGTH_MIN} random characters, or nothing; {MAKE_ONE}"),
]
Secrets = Annotated[list[Secret], BeforeValidator(parse_json_text), _says("a list of secrets")]
NumberedSecrets = Annotated[
    dict[Annotated[str, Field(pattern="^[0-9]+$")], Secret],
    BeforeValidator(parse_json_text),
    _says('numbered secrets, such as { "1" = "..." }'),
]
PublicUrl = Annotated[
    str,
    AfterValidator(public_url),
    _says("a whole https URL; http on this machine only", pattern="^https?://"),
]
MailServer = Annotated[
    str,
    AfterValidator(lambda value: value and host(value)),
    _says("a host name or an IP address, or nothing"),
]
Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(not_bool)]
Sender = Annotated[Line, AfterValidator(sender), _says('an address, or "Name <address>"')]
Address = Annotated[
    str, AfterValidator(lambda value: value and sender(value)), _says("an address, or nothing")
]
Region = Annotated[
    str, AfterValidator(region), _says("a country of ISO 3166, such as US", pattern="^[A-Z]{2}$")
]
Label = Annotated[str, AfterValidator(dns_label), _says("a DNS label, or nothing")]
ReadableFile = Annotated[str, AfterValidator(readable_file), _says("the path of a file, or nothing")]
Directory = Annotated[str, AfterValidator(directory), _says("the path of a directory, or nothing")]
Picture = Annotated[str, AfterValidator(picture), _says("the path of a picture, or nothing")]
Colour = Annotated[
    str,
    Field(pattern="^#[0-9a-fA-F]{6}$"),
    _says('a colour as HTML writes it, such as "#0b6e66"'),
]
Language = Annotated[str, AfterValidator(language), _says("a language, such as de or pt_BR")]
Languages = Annotated[
    list[Language], BeforeValidator(parse_json_text), Field(min_length=1), _says("a list of languages")
]
TimeZone = Annotated[str, AfterValidator(time_zone), _says("a time zone, such as Europe/Berlin")]
Certificates = Annotated[str, AfterValidator(certificates), _says("the path of a PEM file, or nothing")]
Database = Annotated[
    str,
    AfterValidator(database_uri),
    _says("sqlite:///file.db or postgresql://user:password@host/name", pattern="^(sqlite|postgres)"),
]
Argon2Options = Annotated[
    Table,
    AfterValidator(argon2_options),
    _says("memory in KiB, rounds and parallelism, at least as OWASP advises"),
]
BreachCheck = Annotated[Literal[False, "best-effort", "strict"], BeforeValidator(breach_check)]
Rates = Annotated[str, AfterValidator(rates), _says('rates, such as "30 per minute; 300 per hour"')]
Storage = Annotated[
    str, AfterValidator(storage_uri), _says("memory:// or redis://host:6379/0", pattern="^(memory|redis)")
]
ClientUrl = Annotated[
    str, AfterValidator(client_url), _says("a whole https URL, or one of your app's own scheme")
]
Origin = Annotated[
    str, AfterValidator(origin), _says("scheme, host and port alone", pattern="^https?://[^/]+$")
]


class ClientTable(BaseModel):
    """One named front end in RECOVERY_CLIENTS."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reset_view: ClientUrl | None = None
    reset_error_view: ClientUrl | None = None
    post_reset_view: ClientUrl | None = None
    origins: Annotated[list[Origin], Field(default_factory=list)]
    token_in: Literal["query", "fragment"] = "query"  # noqa: S105  # a place, not a password

    @model_validator(mode="after")
    def _has_both_views(self) -> Self:
        if (self.reset_view is None) != (self.reset_error_view is None):
            raise ValueError("set both of reset_view and reset_error_view, or neither for the built-in pages")
        return self


ClientName = Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,39}$")]
Clients = Annotated[dict[ClientName, ClientTable], BeforeValidator(parse_json_text)]
