"""Common passwords, words of this account and this site, and simple variants of them.

NIST SP 800-63B-4 §3.1.1.2: the password is compared as a whole; a phrase that contains a listed word is fine.
The list is zxcvbn's, the most frequent passwords of real leaks.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Set
from functools import cache

EXTRA_MAX = 4  # characters before or after a word that make no other word of it
UNIT_MAX = 3  # a piece as short as this is common, if the password only repeats it
RUN_MIN = 3
# Sequences of the keyboard and the alphabet, also backwards, each going round.
_ROWS = (
    "0123456789",
    string.ascii_lowercase,
    "qwertyuiopasdfghjklzxcvbnm",
    "poiuytrewqlkjhgfdsamnbvcxz",
    "qwertzuiopasdfghjklyxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "qazwsxedcrfvtgbyhnujmikolp",
    "1q2w3e4r5t6y7u8i9o0p",
)
_RUNS = tuple(run for row in _ROWS for run in (row * 7, row[::-1] * 7))
_LOOKS_LIKE = str.maketrans("013457@$!|", "oieastasil")
_SIGNS = re.compile(r"[\W_]+")  # between words
_FROM_LETTER_TO_LETTER = re.compile(r"[a-z](?:.*[a-z])?", re.DOTALL)


def is_common(password: str) -> bool:
    """True if it is listed, runs along the keyboard, repeats itself, or is a simple variant of that."""
    return any(_is_simple(form, _listed()) for form in _forms(password))


def is_about(password: str, words: Iterable[str]) -> bool:
    """True if it is one of these words (names, addresses), or a simple variant of one."""
    known: set[str] = set()
    for word in map(_plain, words):
        known.update(
            (word, _SIGNS.sub("", word), *re.split(r"\W+", word))
        )  # an address is a name and a place
    known = {word for word in known if len(word) > UNIT_MAX}
    return any(_is_simple(form, known) for form in _forms(password))


@cache  # loading takes a third of a second and some megabytes, only where a password is set
def _listed() -> Set[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    return frozenset((*FREQUENCY_LISTS["passwords"], *FREQUENCY_LISTS["english_wikipedia"]))


def _forms(password: str) -> set[str]:
    """Return the letters and digits of the password, and those that its signs look like."""
    plain, forms = _plain(password), set()
    for form in (plain, plain.translate(_LOOKS_LIKE)):
        joined = _SIGNS.sub("", form)
        forms.add(joined if 2 * len(joined) >= len(form) else form)  # mostly signs
    return forms


def _is_simple(text: str, words: Set[str]) -> bool:
    """True if the text repeats a short piece or a known word, maybe with a little around it."""
    unit = _unit(text)
    if len(unit) <= UNIT_MAX or _is_known(unit, words):
        return True
    word = _FROM_LETTER_TO_LETTER.search(unit)
    if word is None or not _is_known(_unit(word[0]), words):
        return False
    extras = map(_unit, (unit[: word.start()], unit[word.end() :]))
    return all(len(extra) <= EXTRA_MAX or _is_known(extra, words) for extra in extras)


def _is_known(text: str, words: Set[str]) -> bool:
    return text in words or (len(text) >= RUN_MIN and any(text in run for run in _RUNS))


def _unit(text: str) -> str:
    """Return the shortest piece that, repeated, is the text: "abc" of "abcabcab"."""
    period = next((n for n in range(1, len(text)) if text.startswith(text[n:])), len(text))
    return text[:period] if period * 2 <= len(text) else text


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
