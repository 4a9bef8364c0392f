"""Soak's judgement: what drifts is found, noise is not taken for drift."""

from __future__ import annotations

import random
from typing import Any

import drift
import pytest

TIMES = [5.0 * i for i in range(720)]  # an hour


def noisy(a_second: float = 0.0, seed: int = 1) -> list[float]:
    source = random.Random(seed)
    return [100 + a_second * time + source.gauss(0, 3) + (50 if source.random() < 0.05 else 0) for time in TIMES]


def test_the_slope_is_an_hours_growth_whatever_the_outliers() -> None:
    assert drift.slope(TIMES, noisy(10 / 3600)) == pytest.approx(10, abs=1.5)
    assert drift.slope(TIMES, noisy()) == pytest.approx(0, abs=1.5)


def test_noise_is_no_drift_and_a_leak_is_one() -> None:
    bound = drift.Bound("MiB", absolute=2, an_hour=1)
    assert drift.of(TIMES, noisy(), bound).holds
    leak = drift.of(TIMES, noisy(12 / 3600), bound)
    assert not leak.holds
    assert leak.last - leak.first == pytest.approx(8, abs=2)  # of two thirds of an hour


def test_the_bound_is_the_sum_of_its_parts() -> None:
    found = drift.of([0.0, 1800.0, 3600.0], [10.0, 10.0, 10.0], drift.Bound("", absolute=1, relative=0.1, an_hour=3))
    assert found.allowed == pytest.approx(1 + 1 + 3 * 2 / 3)


def test_soak_says_what_drifts(tmp_path: Any) -> None:
    import soak
    from reconcile import Report

    def sample(time: float) -> dict[str, float]:
        return {
            "time": time,
            "calls_per_second": 1.0,
            **dict.fromkeys(soak.BOUNDS, 10.0),
            "dirtyd_rss": 20 + time / 100,
        }

    samples = [sample(time) for time in TIMES]
    result = soak.Result(samples, [], soak.judged(samples), Report(), [])
    assert [problem.split(" ")[0] for problem in result.everything_wrong()] == ["dirtyd_rss"]
    assert "DRIFTS" in soak.table(result, 1)
