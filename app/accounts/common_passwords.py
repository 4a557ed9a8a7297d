"""Passwords that are guessed first: listed ones, runs of keys, names, and simple variants of them.

A password is compared as a whole (NIST SP 800-63B-4 §3.1.1.2), so a phrase may contain a listed word. The
list is zxcvbn's, of frequent passwords in real leaks. zxcvbn itself is not used, because some inputs take
it seconds.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Set
from functools import cache
from itertools import chain
from pathlib import Path

EXTRA_MAX = 4  # characters before or after a word that a guesser would try
UNIT_MAX = 3  # characters of a piece that is common when the password only repeats it
REPEATED_MAX = 8  # characters of a longer piece, which is refused after listed words and names
RUN_MIN = 3  # characters of a keyboard run
DISTINCT_MIN = 5  # different characters of a password
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
_PHRASES = Path(__file__).with_name("famous_phrases.txt")  # one a line, in letters alone
_LOOKS_LIKE = str.maketrans("013457@$!|", "oieastasil")
_SIGNS = re.compile(r"[\W_]+")  # between words
_LETTER = r"[^\W\d_]"
_LETTERS = re.compile(f"{_LETTER}+")
_FROM_LETTER_TO_LETTER = re.compile(f"{_LETTER}(?:.*{_LETTER})?", re.DOTALL)


def reason_guessed(password: str, names: Iterable[str]) -> str | None:
    """Return the name of the message for a password that is guessed first, or None.

    It is listed, a keyboard run, a repetition, one of the names and addresses, or a simple variant of these.
    """
    if len(set(_plain(password))) < DISTINCT_MIN:
        return "PASSWORD_COMMON"
    for reason, words in (("PASSWORD_COMMON", _listed()), ("PASSWORD_ABOUT_YOU", _words_of(names))):
        if any(_is_simple(form, words) for form in _forms(password)):
            return reason
    is_repeated = any(len(_unit(form)) <= REPEATED_MAX < len(form) for form in _forms(password))
    return "PASSWORD_COMMON" if is_repeated else None


def _words_of(names: Iterable[str]) -> Set[str]:
    known: set[str] = set()
    for name in map(_plain, names):
        parts = re.split(r"\W+", name)  # of an address: its name and domain
        known.update((name, _SIGNS.sub("", name), *parts))
    return {word for word in known if len(word) > UNIT_MAX}


@cache  # loaded where the first password is set, because it takes time and megabytes
def _listed() -> Set[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS

    lists = FREQUENCY_LISTS["passwords"], FREQUENCY_LISTS["english_wikipedia"], _PHRASES.read_text().split()
    return frozenset(chain(*lists))


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
