"""The clock that the processes of a host share: leases end on time, after all events of clocks and hosts."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from evertoken.stores._host_clock import Deadline, HostClock


class Host:
    """A host whose clocks and boots a test sets."""

    def __init__(self, boot: str = "one", since_boot: float = 5000.0, wall: float = 1_000_000.0) -> None:
        self.since_boot, self.wall = since_boot, wall
        self.clock = HostClock(boot=boot, since_boot=lambda: self.since_boot, wall=lambda: self.wall)

    def advance(self, seconds: float) -> None:
        self.since_boot += seconds
        self.wall += seconds


def test_on_one_host():
    """K2: a lease ends after its seconds, as every process sees it."""
    host = Host()
    ends = host.clock.after(30.0)
    assert host.clock.remaining(ends) == 30.0
    host.advance(29.0)
    assert host.clock.remaining(ends) == pytest.approx(1.0)
    host.advance(1.0)
    assert host.clock.remaining(ends) <= 0.0
    assert host.clock.remaining(None) <= 0.0


@pytest.mark.parametrize("step", [-7200.0, 7200.0])
def test_a_step_of_the_wall_clock(step):
    """K2, T2: a wall clock that is set moves no lease."""
    host = Host()
    ends = host.clock.after(30.0)
    host.wall += step
    assert host.clock.remaining(ends) == 30.0


def test_after_a_reboot():
    """K2: after a reboot leases are judged by the wall clock, and end on time."""
    ends = Host().clock.after(30.0)
    for since_boot in (3.0, 5000.0, 50_000.0):
        rebooted = Host("two", since_boot, wall=1_000_020.0)
        assert rebooted.clock.remaining(ends) == pytest.approx(10.0)
        rebooted.advance(10.0)
        assert rebooted.clock.remaining(ends) <= 0.0


def test_after_a_reboot_that_nobody_names():
    """K2: where the system does not say which boot it is, a clock that fell back says that it was another."""
    ends = Host("").clock.after(30.0)
    assert Host("", since_boot=3.0, wall=1_000_060.0).clock.remaining(ends) <= 0.0


def test_a_wall_clock_that_fell_back_over_a_reboot():
    """K2: a machine that boots in the past waits for no lease for years."""
    ends = Host().clock.after(30.0)
    assert Host("two", 3.0, wall=0.0).clock.remaining(ends) <= 0.0
    assert Host("two", 3.0, wall=999_999.9).clock.remaining(ends) == 30.0


def test_never_longer_than_given():
    """K2: no clock makes a lease longer than it was given for."""
    for host in (Host(), Host("two", 1.0, 999_999.5), Host("one", 4999.0)):
        assert host.clock.remaining(Host().clock.after(30.0)) <= 30.0


@pytest.mark.parametrize(
    "fields",
    [None, [], "abcd", [1, 2, 3], [1, 2, 3, 4], ["1", 2, 3, "b"], [True, 2, 3, "b"], [1, 2, float("nan"), "b"], 5],
)
def test_what_is_no_deadline(fields):
    """K2: an invalid deadline counts as missing."""
    assert Deadline.of(fields) is None


def test_written_and_read():
    """K2: a deadline comes back from JSON as it was."""
    ends = HostClock().after(12.5)
    assert Deadline.of(json.loads(json.dumps(ends.fields()))) == ends


def test_of_this_system():
    """K2: the system's clock moves on, and the rest of a lease shrinks with it."""
    clock = HostClock()
    ends = clock.after(5.0)
    first = clock.remaining(ends)
    time.sleep(0.02)
    assert 0.0 < clock.remaining(ends) < first <= 5.0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.skipif(sys.platform != "linux", reason="others may count differently")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_processes_agree():
    """K2: another process reads the same clock, and the same boot."""
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, json.dumps(HostClock().after(100.0).fields()).encode())
        os._exit(0)
    ends = Deadline.of(json.loads(os.read(reading, 1000)))
    os.wait()
    os.close(reading)
    os.close(writing)
    assert ends is not None
    assert 90.0 < HostClock().remaining(ends) <= 100.0
    assert ends.boot == HostClock().after(1.0).boot != ""
