"""The memory of bad versions."""

from __future__ import annotations

import errno

import pytest
from support.recorder import version

from hotshoe.adapter.errors import RegistryUnavailable, Tampered, Unservable
from hotshoe.serve.failures import LONGEST_SECONDS, REMEMBERED, Failures

TAMPERED = Tampered("bytes differ", details={"adapter": "acme/a"})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_same_error_is_told_again_until_its_time_is_over() -> None:
    clock = Clock()
    failures = Failures(clock)
    failures.remember("a", TAMPERED)
    clock.now = 29.9
    with pytest.raises(Tampered, match="bytes differ") as raised:
        failures.raise_known("a")
    assert raised.value.details == {"adapter": "acme/a"}
    clock.now = 30
    failures.raise_known("a")


def test_each_further_failure_counts_twice_as_long_up_to_a_limit() -> None:
    clock = Clock()
    failures = Failures(clock)
    waits = []
    for _ in range(8):
        failures.remember("a", TAMPERED)
        begun = clock.now
        while True:
            try:
                failures.raise_known("a")
            except Tampered:
                clock.now += 1
            else:
                break
        waits.append(clock.now - begun)
    assert waits == [30, 60, 120, 240, 480, LONGEST_SECONDS, LONGEST_SECONDS, LONGEST_SECONDS]


def test_a_success_is_a_clean_slate() -> None:
    failures = Failures()
    failures.remember("a", TAMPERED)
    failures.forget("a")
    failures.raise_known("a")
    assert failures.known() == {}


def test_the_memory_is_bounded_and_drops_the_oldest() -> None:
    failures = Failures()
    for number in range(REMEMBERED + 10):
        failures.remember(f"bad-{number}", Unservable("no"))
    assert len(failures.known()) == REMEMBERED
    failures.raise_known("bad-0")
    with pytest.raises(Unservable):
        failures.raise_known(f"bad-{REMEMBERED}")


def test_listeners_hear_of_every_failure_and_only_what_lies_in_the_version_is_remembered() -> None:
    failures, heard = Failures(), list[str]()
    failures.listeners.append(lambda version, error: heard.append(f"{version} {error.reason}"))
    one = version("a")
    for error in (RegistryUnavailable("no route"), Unservable("rank 99")):
        with pytest.raises(type(error)), failures.watching(one):
            raise error
    assert heard == ["acme/a@v1 REGISTRY_UNAVAILABLE", "acme/a@v1 UNSERVABLE"]
    assert failures.known() == {one.engine_name: error}


def test_a_full_disk_is_the_machines_fault_and_not_remembered_against_the_version() -> None:
    failures = Failures()
    with (
        pytest.raises(RegistryUnavailable, match=r"acme/a@v1 could not .* No space left"),
        failures.watching(version("a")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "/var/cache/adapters/blob")
    assert failures.known() == {}
