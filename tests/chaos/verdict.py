"""The verdict on a run: which grants were revoked, why, and what else went wrong."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.chaos.judging import KEEPS_WITHIN, excuse

from evertoken._model.token import fingerprint_of

if TYPE_CHECKING:
    from tests.chaos.play import Played

    from evertoken.testing import TokenRequest

#: Seconds after an outage in which members recover. Fetches in this time do not count as duplicates.
SETTLES = 8.0

#: No fetch by the schedule comes before this part of the lifetime: the lead is a fifth, and jitter a tenth of that.
EARLIEST = 0.5


@dataclass
class Verdict:
    """The verdict on a run."""

    title: str
    families: int = 0
    requests: int = 0
    replays: int = 0
    kills: int = 0
    freezes: int = 0
    asked: int = 0
    survivors: int = 0
    revoked: list[str] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        told = (
            f"{self.title}: {self.families} families, {self.requests} requests, {self.kills} killed, "
            f"{self.freezes} frozen, {self.asked} asked, {self.survivors} survivors, {self.replays} replays, "
            f"{len(self.revoked)} revoked, {len(self.excused)} excused, {len(self.faults)} faults"
        )
        return "\n".join(
            [told, *(f"  excused: {one}" for one in self.excused), *(f"  FAULT: {one}" for one in self.faults)]
        )


def judge(played: Played, within: float = KEEPS_WITHIN) -> Verdict:
    """Judge a run; *within* is how long a member may take to keep an answer while the store is well."""
    verdict = Verdict(
        str(played.plan),
        families=len(played.grants),
        replays=sum(server.stats.replays for server in played.servers),
        kills=played.kills,
        freezes=played.freezes,
        asked=played.asked,
        survivors=len(played.said),
    )
    read_logs(played)
    for key, (server, first) in played.grants.items():
        family = server.grants.families[first]
        chain = [*family.spent, family.current]
        asked = [request for request in server.requests if presented(request) in chain]
        verdict.requests += len(asked)
        for request in asked:
            if request.outcome == "issued":
                following = chain[chain.index(presented(request)) + 1]
                had = played.history.had.setdefault(fingerprint_of(following), [])
                had.append((dict(request.form)["member"], request.at))
        if family.revoked:
            verdict.revoked.append(key)
            replay = next(request for request in asked if request.outcome == "invalid_grant")
            lost = fingerprint_of(chain[chain.index(presented(replay)) + 1])
            found = excuse(played.history, lost, replay.at, within)
            by = dict(replay.form)["member"]
            told = f"{key}: {by} presented {fingerprint_of(presented(replay))} again at {replay.at:.3f}"
            (verdict.faults if found is None else verdict.excused).append(f"{told}; {lost} was lost: {found}")
        else:
            verdict.faults += duplicates(key, chain, asked, played, server.lifetime)
    verdict.faults += of_survivors(played, verdict.revoked)
    return verdict


def read_logs(played: Played) -> None:
    """Bring what the members wrote into the history."""
    history = played.history
    for line in played.logged():
        refresh = line.get("refresh")
        if refresh is None:
            continue
        if line["what"] in {"received", "saw"}:
            history.had.setdefault(refresh, []).append((line["member"], line["at"]))
        if line["what"] in {"marked", "committed"} and line["done"]:
            history.kept.setdefault(refresh, []).append(line["at"])


def presented(request: TokenRequest) -> str:
    return dict(request.form)["refresh_token"]


def duplicates(key: str, chain: list[str], asked: list[TokenRequest], played: Played, lifetime: float) -> list[str]:
    """Return the fetches of new tokens that nobody asked for, while the store was well."""
    found = []
    wanted = [line["at"] for line in played.logged() if line["key"] == key and line["what"] in {"refresh", "refused"}]
    # A token is as old as its request is for the one that asked, also if it was frozen on the way.
    asks = [line for line in played.logged() if line["key"] == key and line["what"] == "asks"]
    # The first refresh token is not one of a token before.
    began = {line["spent"] or fingerprint_of(chain[0]): line["at"] for line in asks}
    issued = [request for request in asked if request.outcome == "issued"]
    for before, request in itertools.pairwise(issued):
        gap = request.at - min(before.at, began.get(fingerprint_of(presented(before)), before.at))
        kept = played.history.kept.get(fingerprint_of(presented(request)), [])
        known = any(at <= request.at for at in kept)
        # A member that was frozen when it was asked fetches when it is thawed.
        forced = any(at - 1.0 <= request.at <= at + played.plan.longest_freeze + SETTLES for at in wanted)
        well = all(request.at < first or before.at > last + SETTLES for first, last in played.history.outages)
        if gap < lifetime * EARLIEST and known and well and not forced:
            member = dict(request.form)["member"]
            found.append(f"{key}: {member} fetched at {request.at:.3f}, {gap:.2f} s after the fetch before")
    return found


def of_survivors(played: Played, revoked: list[str]) -> list[str]:
    """Return the faults of the members that lived to the end."""
    found = []
    for name, said in played.said.items():
        if said is None:
            found.append(f"{name} did not end")
        elif "tokens" not in said:
            found.append(f"{name} {said}")
        else:
            found += [f"{name} ended with {error}" for error in said["failed"]]
            found += [
                f"{name} got {got} for {key}"
                for key, got in said["tokens"].items()
                if key not in revoked and got in {"TokenUnavailable", "GrantRejected", "ManagerClosed"}
            ]
    return found
