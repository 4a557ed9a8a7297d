"""Passwords that are tried first: common ones, words of this account and this site, and what is made of
them in a simple way.

NIST SP 800-63B-4 §3.1.1.2: the password is compared as a whole. A phrase that holds a listed word is fine.
Nothing leaves this machine. The list is the one that zxcvbn ships, the most frequent ones of real leaks.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

EXTRA_MAX = 4  # a word with so many other characters before or after it is still that word
UNIT_MAX = 3  # so short a piece is common whatever it holds, if it is all that is repeated
RUN_MIN = 3
# What a finger or the alphabet writes without a thought, also backwards; each goes round.
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
_FROM_LETTER_TO_LETTER = re.compile(r"[a-z](?:.*[a-z])?", re.DOTALL)


def is_common(password: str) -> bool:
    """Whether it is on the list, runs along the keyboard, repeats itself, or is a simple variant of that."""
    return _is_made_of(password, _listed())


def is_about(password: str, words: Iterable[str]) -> bool:
    """Whether it is one of these words (names, addresses), or a simple variant of one."""
    known = {form for word in words for form in _forms_of_word(word)}
    return bool(known) and _is_made_of(password, frozenset(known))


@cache  # a third of a second and some megabytes: only for whoever sets a password
def _listed() -> frozenset[str]:
    from zxcvbn.frequency_lists import FREQUENCY_LISTS  # see above

    return frozenset((*FREQUENCY_LISTS["passwords"], *FREQUENCY_LISTS["english_wikipedia"]))


def _forms_of_word(word: str) -> Iterator[str]:
    """The word; and its parts, since an address is a name and a place."""
    whole = _plain(word)
    for part in (whole, _joined(whole), *re.split(r"[^\w]+", whole)):
        if len(part) > UNIT_MAX:
            yield part


def _is_made_of(password: str, words: frozenset[str]) -> bool:
    whole = _plain(password)
    read = whole.translate(_LOOKS_LIKE)
    joined = {
        _joined(form) for form in (whole, read) if 2 * len(_joined(form)) >= len(form)
    }  # or signs are most of it
    forms = {whole, read, *joined}
    return any(_is_simple(form, words) for form in forms)


def _is_simple(text: str, words: frozenset[str]) -> bool:
    unit = _unit(text)
    if len(unit) <= UNIT_MAX or _is_known(unit, words):
        return True
    word = _FROM_LETTER_TO_LETTER.search(unit)
    if word is None or not _is_known(_unit(word[0]), words):
        return False
    return all(_adds_little(extra, words) for extra in (unit[: word.start()], unit[word.end() :]))


def _is_known(text: str, words: frozenset[str]) -> bool:
    return text in words or _is_run(text)


def _adds_little(extra: str, words: frozenset[str]) -> bool:
    unit = _unit(_joined(extra))
    signs = set(extra) - set(unit)
    return (len(unit) <= EXTRA_MAX and len(signs) <= EXTRA_MAX) or _is_known(unit, words)


def _is_run(text: str) -> bool:
    return len(text) >= RUN_MIN and any(text in run for run in _RUNS)


def _unit(text: str) -> str:
    """The shortest piece that, repeated, is the text: "abc" of "abcabcab"."""
    period = next((n for n in range(1, len(text)) if text.startswith(text[n:])), len(text))
    return text[:period] if period * 2 <= len(text) else text


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _joined(text: str) -> str:
    """Letters and digits alone, without what people put between words."""
    return re.sub(r"[\W_]+", "", text)
