"""Passwords that are guessed first: patterns, listed ones, names, and simple variants of them.

A password is compared as a whole (NIST SP 800-63B-4 §3.1.1.2), so a phrase may contain a listed word. The
list is zxcvbn's, of frequent passwords in real leaks. zxcvbn itself is not used, because some inputs take
it seconds.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Set
from functools import cache
from itertools import chain, pairwise
from operator import eq
from pathlib import Path

EXTRA_MAX = 4  # characters before or after a word that a guesser would try
UNIT_MAX = 3  # characters of a piece that is common when the password only repeats it
RUN_MIN = 3  # characters of a keyboard run
PERIOD_MAX = 8  # characters of a piece that makes a pattern by repetition
DISTINCT_MIN = 5  # different characters of a password
_IS_MOSTLY = 0.8  # of a password's characters continue a pattern
# Sequences of the keyboard and the alphabet. Runs go both ways and start again at the end.
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
_NEIGHBORS = frozenset(pair for run in _RUNS[:10] for pair in pairwise(run))  # of the first five rows
_YEAR, _MONTH, _DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_DATES = re.compile(rf"(?:{_YEAR}(?:{_MONTH}{_DAY})?|{_DAY}{_MONTH}{_YEAR}|{_MONTH}{_DAY}{_YEAR})+")
_PHRASES = Path(__file__).with_name("famous_phrases.txt")  # one a line, in letters alone
_LOOKS_LIKE = str.maketrans("013457@$!|", "oieastasil")
_SIGNS = re.compile(r"[\W_]+")  # between words
_LETTER = r"[^\W\d_]"
_LETTERS = re.compile(f"{_LETTER}+")
_FROM_LETTER_TO_LETTER = re.compile(f"{_LETTER}(?:.*{_LETTER})?", re.DOTALL)


def reason_guessed(password: str, names: Iterable[str]) -> str | None:
    """Return the name of the message for a password that is guessed first, or None."""
    if is_common(password):
        return "PASSWORD_COMMON"
    if is_pattern(password):
        return "PASSWORD_PATTERN"
    return "PASSWORD_ABOUT_YOU" if is_about(password, names) else None


def is_pattern(password: str) -> bool:
    """True if the password mostly repeats a few characters, follows a row of keys or letters, or is dates."""
    return len(set(_plain(password))) < DISTINCT_MIN or any(map(_is_pattern, _forms(password)))


def is_common(password: str) -> bool:
    """True if the password is listed, a keyboard run, a repetition, or a simple variant of one."""
    return any(_is_simple(form, _listed()) for form in _forms(password))


def is_about(password: str, words: Iterable[str]) -> bool:
    """True if the password is one of these words (names, addresses), or a simple variant of one."""
    known: set[str] = set()
    for word in map(_plain, words):
        parts = re.split(r"\W+", word)  # of an address: its name and domain
        known.update((word, _SIGNS.sub("", word), *parts))
    known = {word for word in known if len(word) > UNIT_MAX}
    return any(_is_simple(form, known) for form in _forms(password))


@cache  # loaded where the first password is set, because it takes time and megabytes
def _listed() -> Set[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    lists = FREQUENCY_LISTS["passwords"], FREQUENCY_LISTS["english_wikipedia"], _PHRASES.read_text().split()
    return frozenset(chain(*lists))


def _is_pattern(text: str) -> bool:
    continues = [[eq(*pair) or pair in _NEIGHBORS for pair in pairwise(text)]]
    for period in range(2, min(PERIOD_MAX, (len(text) + 1) // 2) + 1):
        continues.append(list(map(eq, text, text[period:])))
    return _DATES.fullmatch(text) is not None or any(sum(c) >= _IS_MOSTLY * len(c) for c in continues)


def _forms(password: str) -> set[str]:
    """Return the password's letters and digits, as typed and with look-alikes replaced."""
    plain, forms = _plain(password), set()
    for form in (plain, plain.translate(_LOOKS_LIKE)):
        joined = _SIGNS.sub("", form)
        forms.add(joined if 2 * len(joined) >= len(form) else form)  # else it is mostly signs
    return forms


def _is_simple(text: str, words: Set[str]) -> bool:
    """True if the text repeats a short piece or a known word with little around it or between."""
    unit = _unit(text)
    repeated = {*map(_unit, _LETTERS.findall(unit))}
    parts = [unit, *_FROM_LETTER_TO_LETTER.findall(unit), *(repeated if len(repeated) == 1 else ())]
    rests = [unit.split(word) for word in {*parts, *map(_unit, parts)} if _is_known(word, words)]
    return len(unit) <= UNIT_MAX or any(all(_is_extra(piece, words) for piece in rest) for rest in rests)


def _is_extra(text: str, words: Set[str]) -> bool:
    return len(text) <= EXTRA_MAX or _is_known(_unit(text), words)


def _is_known(text: str, words: Set[str]) -> bool:
    return text in words or (len(text) >= RUN_MIN and any(text in run for run in _RUNS))


def _unit(text: str) -> str:
    """Return the shortest piece that makes up the text by repetition: "abc" of "abcabcab"."""
    period = next((n for n in range(1, len(text)) if text.startswith(text[n:])), len(text))
    return text[:period] if period * 2 <= len(text) else text


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()
