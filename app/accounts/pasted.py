"""Text as people paste it: with invisible characters, full-width forms, and punctuation around it."""

import unicodedata

_HALF_WIDTH = {code + 0xFEE0: code for code in range(ord("!"), ord("~") + 1)}
_AROUND = " <>()[]{}\"'`´«»‹›“”„‟‘’‚‛.,;:!?…·*|/\\、。〈〉《》「」『』【】〔〕،؛؟"


def plain(text: str) -> str:
    """Return the text in half-width forms, with plain spaces and digits, and without format characters."""
    halved = text.translate(_HALF_WIDTH)
    is_foreign = "@" in halved and any(one.isalpha() and not one.isascii() for one in halved)
    joiners = "\u200c\u200d" if is_foreign else ""  # they tell domains apart (RFC 5892 A.1)
    visible = (one for one in halved if unicodedata.category(one) != "Cf" or one in joiners)
    spaced = (" " if unicodedata.category(one) == "Zs" else one for one in visible)
    return "".join(str(unicodedata.decimal(one, one)) for one in spaced).strip()


def trim(text: str) -> str:
    """Return the plain text without the characters around it, as in <mailto:alice@example.com>."""
    trimmed = plain(text).strip(_AROUND)
    return trimmed[7:].strip(_AROUND) if trimmed.lower().startswith("mailto:") else trimmed
