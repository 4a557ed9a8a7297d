"""The Mann-Whitney U test, as an AUC: does a difference exceed chance? `bench/` uses it, too."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

ALPHA = 0.001  # the doctor tests a difference twice, so that false alarms are one in a million
EFFECT_MIN = 0.1  # distance of an AUC from 0.5; an attacker needs thousands of requests to use a smaller one
Z_ALPHA = 3.29  # two-sided, for ALPHA
Z_POWER = 1.25  # 9 of 10 differences detected, so that both tests detect it in 4 of 5 scans


def auc(sample: Sequence[float], other: Sequence[float]) -> float:
    """Return how often a time of `other` exceeds one of `sample`. Ties count half."""
    ordered = sorted(sample)
    shorter = sum(bisect_left(ordered, time) + bisect_right(ordered, time) for time in other) / 2
    return shorter / (len(sample) * len(other))


def standard_error(n: int, m: int) -> float:
    """Return the standard error of an AUC of equally distributed samples."""
    return math.sqrt((n + m + 1) / (12 * n * m))


def is_significant(sample: Sequence[float], other: Sequence[float]) -> bool:
    """True if the difference is neither chance nor too small for an attacker."""
    distance = abs(auc(sample, other) - 0.5)
    p_value = math.erfc(distance / standard_error(len(sample), len(other)) / math.sqrt(2))
    return p_value < ALPHA and distance >= EFFECT_MIN


def detectable_auc(n: int, m: int) -> float:
    """Return the smallest AUC that samples of these sizes detect in at least 4 of 5 scans.

    The variance of an AUC is at most that of as many coin tosses as the smaller sample has values.
    """
    needed = 0.5 + max(EFFECT_MIN, Z_ALPHA * standard_error(n, m))
    for percent in range(50, 100):
        candidate = percent / 100
        if candidate - Z_POWER * math.sqrt(candidate * (1 - candidate) / min(n, m)) >= needed:
            return candidate
    return 1.0
