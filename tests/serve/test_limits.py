"""Rates that hold on average."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hotshoe.serve.limits import Bucket


def test_a_full_bucket_allows_a_burst_and_then_its_rate() -> None:
    bucket = Bucket.full(per_second=2, burst=3, now=0)
    for _ in range(3):
        assert bucket.wait_seconds(1, 0) == 0
        bucket = bucket.take(1, 0)
    assert bucket.wait_seconds(1, 0) == 0.5
    assert bucket.wait_seconds(1, 0.5) == 0


def test_a_debt_is_paid_before_anything_else_is_taken() -> None:
    bucket = Bucket.full(per_second=10, burst=10, now=0).take(110, 0)
    assert bucket.wait_seconds(1, 0) == 10.1
    assert bucket.wait_seconds(1, 10.1) == 0


def test_more_than_the_bucket_holds_is_given_when_it_is_full() -> None:
    assert Bucket.full(per_second=1, burst=5, now=0).wait_seconds(50, 0) == 0


def test_a_clock_that_jumps_back_gives_and_takes_nothing() -> None:
    bucket = Bucket.full(per_second=1, burst=5, now=100).take(5, 100)
    assert bucket.wait_seconds(1, 50) == 1
    assert bucket.take(0, 50).wait_seconds(1, 101) == 0


@given(
    st.floats(0.1, 100),
    st.lists(st.tuples(st.floats(0, 5), st.floats(0.1, 10)), max_size=40),
)
def test_over_any_time_no_more_is_given_than_burst_and_rate(
    rate: float, wishes: list[tuple[float, float]]
) -> None:
    burst, now, given_away = 10.0, 0.0, 0.0
    bucket = Bucket.full(rate, burst, now)
    for pause, amount in wishes:
        now += pause
        if not bucket.wait_seconds(amount, now):
            bucket = bucket.take(amount, now)
            given_away += amount
    assert given_away <= burst + rate * now + 1e-6
