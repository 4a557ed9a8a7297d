"""Mappers of identity kinds: an admin's function, or a declared pattern. None of them fails a request.

A mapper returns the normal form of an input, or None for one of another kind.
"""

import string
import time
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flask import current_app
from flask_security.utils import get_identity_attribute

from ..settings import current
from ..settings.checks import check
from ..settings.findings import KINDS, Finding
from ..settings.identities import IdentityKind
from .pasted import trim

IDENTITY_LENGTH_MAX = 254  # characters: the longest address mail can carry (RFC 5321 §4.5.3.1.3)
# ASCII only, because databases fold other letters differently: PostgreSQL's lower() changes K (U+212A),
# SQLite's does not. Folding it would merge two mailboxes into one account.
ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
# For the first two, a pattern with nested repetitions takes 2^24 steps, and for the last it would never end.
SAMPLES = (
    *("1" * 24 + "!", "a" * 24 + "!", "", "alice", "alice@example.com", "+1 415 555 0123", "1234", "12345"),
    *("1", "123456", "123-45-678", "١٢٣", "E12345", "e-12345", "AB123456", "é" * IDENTITY_LENGTH_MAX),
)
SECONDS_MAX = 0.2  # of the processor, for one sample


class GuardedMapper(NamedTuple):
    """A mapper that never raises: an input for which it would is of no kind."""

    kind: str
    mapper: Callable[[str], Any]
    ignores_case: bool

    def __call__(self, typed: str) -> str | None:
        """Return the normal form, if need be without the characters that copying adds. Or None."""
        try:
            return self.map(typed.strip()) or self.map(trim(typed))
        except Exception as error:  # its message may hold the input
            current_app.logger.error("the mapper of %s failed: %s", self.kind, type(error).__name__)
            return None

    def map(self, typed: str) -> str | None:
        """Return the normal form, or None. Raises any error of the mapper."""
        form = self.mapper(typed) or ""
        if not isinstance(form, str) or len(form) > IDENTITY_LENGTH_MAX or not form.isprintable():
            raise TypeError(f"it returns {type(form).__name__} that is no short, printable text")
        return (form.translate(ASCII_LOWER) if self.ignores_case else form) or None


def match_printable(typed: str) -> str | None:
    """Return any printable text as it is: a username in another application's table."""
    return typed if typed.isprintable() else None


def match(kind: IdentityKind, typed: str) -> str | None:
    """Return the normal form by a declared kind, if its pattern matches the whole of it."""
    form = NORMALIZERS.get(kind.normalize or "", str)(unicodedata.normalize("NFKC", typed).strip())
    return form if kind.pattern and kind.pattern.fullmatch(form) else None


def drop_separators(text: str) -> str:
    """Return letters and digits alone, with the digits of any script as 0-9."""
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in text if letter.isalnum())


NORMALIZERS = {"upper": str.upper, "lower": str.lower, "digits": drop_separators}


@check
def check_mappers() -> Iterator[Finding]:
    """Try each mapper that an admin gives, declares, or replaces a part of."""
    settings = current()
    for name, kind in settings.SECURITY_USER_IDENTITY_ATTRIBUTES.items():
        mapper: GuardedMapper = get_identity_attribute(name)["mapper"]
        for sample in SAMPLES if kind.mapper or kind.pattern or settings.RECOVERY_CLASSES else ():
            try:
                form, began = mapper.map(sample), time.thread_time()
                if mapper.map(form or sample) != form:
                    raise ValueError(f"it maps {form!r}, its own result, to something else")
                if time.thread_time() - began > SECONDS_MAX:
                    raise TimeoutError("it takes too long; a pattern may nest repetitions")
            except Exception as error:
                yield KINDS["identity-mapper"].found(kind=name, problem=f"{sample!r}: {error!r}")
                break
