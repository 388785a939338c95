"""Metrics for Prometheus, the alert rules and the dashboard that the documentation offers (L2)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from tests.gated import GatedSource, virtual
from tests.observability.promql import Scrapes, names_in

from evertoken import GrantRejected, TokenManager, TokenUnavailable, TransientRefreshError, events
from evertoken.observability.prometheus import PrometheusObserver
from evertoken.stores import MemoryStore

STATIC = Path(__file__).parent.parent.parent / "docs" / "_static"
RULES = yaml.safe_load((STATIC / "evertoken-alerts.yaml").read_text(encoding="utf-8"))["groups"][0]["rules"]
DASHBOARD = json.loads((STATIC / "evertoken-dashboard.json").read_text(encoding="utf-8"))
EXPRESSIONS = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{f"{panel['title']}, {one['refId']}": one["expr"] for panel in DASHBOARD["panels"] for one in panel["targets"]},
}
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Alerts:
    """The alert rules, evaluated at each scrape as Prometheus does."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.scrapes = Scrapes(registry)
        self._since: dict[str, float] = {}
        self.fired: dict[str, float] = {}

    def evaluate(self, now: float) -> None:
        self.scrapes.scrape(now)
        for rule in RULES:
            name, wait = rule["alert"], rule.get("for", "0s")
            if not self.scrapes.value(rule["expr"]):
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, now)
            if now - since >= float(wait[:-1]) * SECONDS[wait[-1]]:
                self.fired.setdefault(name, now)


async def watch(alerts: Alerts, clock: Any, seconds: float) -> None:
    for _ in range(int(seconds / 15.0)):
        alerts.evaluate(clock.time())
        await clock.advance(15.0)


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_rules_and_panels_name_metrics_that_exist(expression):
    """L2: what the documentation offers to Prometheus and Grafana reads metrics that this library has."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    manager = TokenManager(GatedSource(None))
    observer.watch(manager)
    known = {sample.name for family in registry.collect() for sample in family.samples}
    assert names_in(expression) <= known


QUIET: set[str] = set()
OUTAGES = {
    "all is well": (None, QUIET),
    "the provider is down": (
        TransientRefreshError("503"),
        {"EvertokenFetchesFail", "EvertokenCallersWithoutToken", "EvertokenProviderDown"},
    ),
    "the grant is rejected": (
        GrantRejected("invalid_grant"),
        {"EvertokenGrantRejected", "EvertokenCallersWithoutToken"},
    ),
}


@virtual
@pytest.mark.parametrize(("error", "expected"), OUTAGES.values(), ids=OUTAGES)
async def test_alerts_in_an_outage(clock, error, expected):
    """L2: each rule fires in the outage that it is for, and none fires on a day without one."""
    registry = CollectorRegistry()
    observer, alerts = PrometheusObserver(registry), Alerts(registry)
    source = GatedSource(clock, lifetime=300.0, open_=True)
    async with TokenManager(source, observers=[observer], clock=clock) as manager:
        observer.watch(manager)
        await manager.get()
        await watch(alerts, clock, 900.0)
        assert alerts.fired == {}
        source.error = error
        for _ in range(20):
            await watch(alerts, clock, 60.0)
            try:
                await manager.get()
            except (GrantRejected, TokenUnavailable):
                assert error is not None
    assert set(alerts.fired) == expected


@virtual
async def test_alerts_of_a_store_and_of_a_supervisor(clock):
    """L2: a store that fails, a grant that ends and a supervisor that is gone have rules of their own."""
    registry = CollectorRegistry()
    observer, alerts = PrometheusObserver(registry), Alerts(registry)
    manager = TokenManager(GatedSource(clock, open_=True), observers=[observer], clock=clock)
    observer.watch(manager)
    await manager.start()
    await watch(alerts, clock, 60.0)
    for number in range(16):
        observer(events.StoreFailed(at=clock.time(), operation="read", error="down"))
        if number == 0:
            observer(events.GrantExpiring(at=clock.time(), expires_at=clock.time() + 60.0))
        await watch(alerts, clock, 60.0)
    await manager.aclose()
    await watch(alerts, clock, 120.0)
    assert set(alerts.fired) == {"EvertokenStoreFails", "EvertokenGrantExpiring", "EvertokenSupervisorDown"}


@virtual
async def test_what_is_counted(clock):
    """L2: fetches, waits, steps of the store and refusals are counted, and no key is a label (S1)."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    source = GatedSource(clock, open_=True)
    manager = TokenManager(
        source_for=lambda key: source, observers=[observer], clock=clock, store=MemoryStore(), namespace="n"
    )
    async with manager as tokens:
        observer.watch(tokens)
        token = await tokens.get("customer-17")
        await tokens.refused(token, "customer-17")
        observer(events.CallerWaited(at=clock.time(), key="customer-17", took=0.25, served=True))
        read = registry.get_sample_value
        assert read("evertoken_fetch_seconds_count", {"outcome": "refreshed"}) == 2.0
        assert read("evertoken_fetches_total", {"reason": "absent"}) == 1.0
        assert read("evertoken_fetches_total", {"reason": "refused"}) == 1.0
        assert read("evertoken_tokens_refused_total", {"outcome": "fetched"}) == 1.0
        assert read("evertoken_store_seconds_count", {"operation": "begin"}) == 2.0
        assert read("evertoken_wait_seconds_sum", {"outcome": "served"}) == 0.25
        assert read("evertoken_keys_valid", {"manager": "default"}) == 1.0
        assert read("evertoken_supervisor_alive", {"manager": "default"}) == 1.0
    text = generate_latest(registry).decode()
    assert "customer-17" not in text
    assert token.access_token not in text


def test_two_managers_need_two_names():
    """L2: the gauges of one manager never stand for those of another; one that is gone gives its name back."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    first, second = (TokenManager(GatedSource(None)) for _ in range(2))
    observer.watch(first)
    observer.watch(first)
    with pytest.raises(ValueError, match="a different name"):
        observer.watch(second)
    observer.watch(second, "second")
    names = {"default", "second"}
    assert {name for name in names if registry.get_sample_value("evertoken_keys", {"manager": name}) == 1.0} == names
    del first
    observer.watch(second, "default")
