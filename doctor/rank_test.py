"""The Mann-Whitney U test, as an AUC, for two samples of times. Also for `bench/`."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

ALPHA = 0.001  # one false alarm in a thousand; the doctor measures twice, so one in a million
EFFECT = 0.1  # of an AUC from 0.5: an attacker needs thousands of requests to use a smaller one
_Z_ALPHA, _Z_POWER = 3.29, 1.25  # two-sided for ALPHA; 9 of 10, so that both measurements show it in 4 of 5


def auc(live: Sequence[float], other: Sequence[float]) -> float:
    """Return how often one of `other` takes longer than one of `live`; ties count half."""
    ordered = sorted(live)
    shorter = sum(bisect_left(ordered, took) + bisect_right(ordered, took) for took in other) / 2
    return shorter / (len(live) * len(other))


def error(n: int, m: int) -> float:
    """Return the standard error of an AUC when both take the same time."""
    return math.sqrt((n + m + 1) / (12 * n * m))


def is_told(live: Sequence[float], other: Sequence[float]) -> bool:
    """True if the difference is significant, and large enough to be useful to an attacker."""
    away = abs(auc(live, other) - 0.5)
    by_chance = math.erfc(away / error(len(live), len(other)) / math.sqrt(2))
    return by_chance < ALPHA and away >= EFFECT


def seen_from(n: int, m: int) -> float:
    """Return the AUC that so many samples show in 4 of 5 visits or more; larger ones more reliably.

    No AUC varies more than that of a coin with as many throws as the smaller set has samples.
    """
    needed = 0.5 + max(EFFECT, _Z_ALPHA * error(n, m))
    for percent in range(50, 100):
        true = percent / 100
        if true - _Z_POWER * math.sqrt(true * (1 - true) / min(n, m)) >= needed:
            return true
    return 1.0
