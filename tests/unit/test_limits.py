"""Rates, pauses and the circuit by a clock of the test."""

import pytest

from zephyr.client.call import Outcome
from zephyr.client.limits import Bucket, Circuit, Patience

GOOD, BAD, GONE = Outcome("refused"), Outcome("passing", "HTTP 500"), Outcome("down", "nobody there")


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_lets_a_seconds_worth_go_at_once_and_the_rest_in_turn() -> None:
    time = Time()
    bucket = Bucket(120, time)  # two a second
    assert [bucket.take(1) for _ in range(5)] == [0, 0, 0.5, 1.0, 1.5]
    time.now = 10.0  # all is there again, no more than a second's worth
    assert [bucket.take(1) for _ in range(3)] == [0, 0, 0.5]


def test_no_minute_gets_more_than_its_rate_and_a_second() -> None:
    time, gone = Time(), []
    bucket = Bucket(600, time)
    for _ in range(2000):
        time.now += wait if (wait := bucket.take(1)) > 0 else 0.0
        gone.append(time.now)
    most = max(sum(start <= at < start + 60 for at in gone) for start in gone[::50])
    assert 600 <= most <= 610


def test_what_was_estimated_too_high_is_given_back() -> None:
    time = Time()
    bucket = Bucket(6000, time)  # a hundred a second
    assert bucket.take(1000) == pytest.approx(9.0)  # a hundred were there; nine seconds bring the rest
    bucket.give_back(900)
    assert bucket.take(0) == 0.0
    bucket.give_back(-500)  # five hundred more than estimated
    assert bucket.take(0) == pytest.approx(5.0)


def test_no_rate_is_no_wait() -> None:
    assert Bucket(None, Time()).take(10**9) == 0.0


def test_pauses_double_up_to_the_longest_with_jitter() -> None:
    patience = Patience(first=0.5, longest=4.0)
    for tried, most in enumerate([0.5, 1, 2, 4, 4, 4]):
        found = [patience.pause(tried) for _ in range(50)]
        assert most / 2 <= min(found) < max(found) <= most


def circuit() -> tuple[Circuit, Time, list[str]]:
    time, said = Time(), []
    return Circuit("judge", Patience(suspicious=3), time, said.append), time, said


def test_a_circuit_opens_at_once_when_nobody_is_there() -> None:
    one, time, said = circuit()
    time.now = 7.0
    one.saw("a", GONE)
    assert one.opened == 7.0 and one.gone and "endpoint judge is down (nobody there)" in said[0]
    time.now = 19.0
    assert one.lasted() == 12.0
    one.saw("b", GOOD)
    assert one.opened is None and said[1] == "endpoint judge is back after 12 s"


def test_a_circuit_opens_when_different_calls_fail_in_a_row() -> None:
    one, _, said = circuit()
    for _ in range(5):
        one.saw("a", BAD)  # one call that always fails says nothing of the endpoint
    one.saw("b", BAD)
    assert one.opened is None
    one.saw("a", GOOD)
    one.saw("b", BAD)
    one.saw("c", BAD)
    assert one.opened is None  # not in a row
    one.saw("d", BAD)
    assert one.opened is not None and not one.gone and len(said) == 1
