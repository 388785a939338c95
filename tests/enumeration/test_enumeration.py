"""
Every single fault in a refresh, and a sample of the pairs. All pairs run in `nox -s enumeration`.

A failure names its runs. `python -m tests.enumeration --run ID` plays one of them alone and shows its events.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.enumeration.faults import PROVIDERS, Plan
from tests.enumeration.runs import baselines, sample, singles
from tests.enumeration.scenario import play
from tests.enumeration.server import Knowledge, not_to_be_presented

# The runs with several faults that found a bug. They stay, independent of the seeds of the sample.
FOUND = [
    "store:minting:a.read#1=back+b.begin#4=fail",
    "store:minting:a.read#2=behind+a.read#4=close",
    "store:minting:b.begin#3=close+a.read#1=back",
    "store:minting:b.abandon#1=back+a.begin#2=fail",
    "store:minting:b.watch#1=cancel+b.begin#5=behind",
    "store:rotating:a.begin#2=ahead+a.begin#5=restart",
    "store:rotating:a.begin#4=behind+b.begin#5=flush",
    "store:rotating:a.fetch#1=paused+b.commit#9=back",
    "store:rotating:a.fetch#2=dead+a.read#1=back",
    "store:rotating:a.commit#1=back+b.read#2=flush",
    "store:rotating:a.commit#2=back+b.read#4=flush",
    "store:rotating:a.read#2=ahead+a.begin#4=flush",
    "store:rotating:b.begin#3=flush+a.begin#12=behind",
    "store:rotating:b.commit#1=behind+b.renew#1=killed",
    # A fetch that brought a dead token read its own record, after the clock was set back.
    "store:minting:a.fetch#2=dead+a.commit#2=back",
    "store:minting:a.fetch#2=dead+a.read#1=back",
]


def check(plans: Iterable[Plan], capsys: pytest.CaptureFixture[str], what: str) -> None:
    runs, failed = 0, []
    for plan in plans:
        runs += 1
        result = play(plan)
        if result.faults:
            failed.append("\n    ".join([str(plan), *result.faults[:3]]))
    with capsys.disabled():
        print(f"\n{what}: {runs} runs", end="")
    assert not failed, f"{len(failed)} of {runs} runs:\n" + "\n".join(failed[:20])


@pytest.mark.parametrize("plan", baselines(), ids=str)
def test_without_a_fault_each_lifetime_costs_one_fetch(plan):
    """K2: two members, a cold start, two lifetimes, a forced refresh and a refusal make six fetches together."""
    result = play(plan)
    assert not result.faults
    assert result.taken == 6
    assert result.replays == 0


@pytest.mark.parametrize(
    "place",
    [*(f"store:{kind}:{member}" for kind in PROVIDERS for member in "ab"), "local:rotating:a", "local:minting:a"],
)
def test_each_single_fault(place, capsys):
    """K1, K4, F5, T2, R3, L1: for every outcome of one step, no answer is lost and no key or caller is left alone."""
    chosen = [plan for plan in singles() if str(plan).startswith(f"{place}.")]
    assert chosen
    check(chosen, capsys, f"single faults, {place}")


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_of_all_pairs_of_faults(seed, capsys):
    """
    K1, K4, F5, T2, R3, L1: the same holds where two steps go wrong, the second one in what follows from the first.
    """
    check(sample(400, seed), capsys, f"pairs of faults, seed {seed}")


@pytest.mark.parametrize("name", FOUND)
def test_a_run_in_which_a_fault_was_found(name, capsys):
    """K1, T2: a run that has shown a fault once is played for ever."""
    result = play(Plan.parse(name))
    assert not result.faults


@pytest.mark.parametrize("name", ["store:rotating:a.commit#2=lost+b.begin#3=kill", "local:rotating:a.fetch#2=close"])
def test_a_name_says_all_of_a_run(name):
    """The same name is the same run: its steps, its fetches and its events repeat themselves."""
    plan = Plan.parse(name)
    assert str(plan) == name
    first, second = play(plan), play(plan)
    assert first.trace == second.trace
    assert first.taken == second.taken
    assert list(map(repr, first.events)) == list(map(repr, second.events))


@pytest.mark.parametrize(
    ("presented", "received", "stored", "excused"),
    [
        ("k|0|1", [], None, True),
        ("k|0|1", ["k|0|1"], "k|0|1", True),
        ("k|0|1", ["k|0|2"], None, False),
        ("k|0|1", ["k|0|2"], "k|0|1", False),
        ("k|0|1", ["k|0|0"], "k|0|2", False),
        ("k|1|0", ["k|0|5"], "k|0|5", True),
        ("k|0|3", ["k|0|3"], "k|0|2", True),
    ],
)
def test_the_rule_of_what_is_excused(presented, received, stored, excused):
    """K1: a process may present a refresh token unless it has received or read a later one, or could read it."""
    known = Knowledge()
    for refresh_token in received:
        known.learn(refresh_token)
    assert (not_to_be_presented(presented, known, stored) is None) is excused
