"""Metrics and spans through OpenTelemetry (L2)."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.gated import GatedSource, virtual

from evertoken import GrantRejected, TokenManager, TokenUnavailable, TransientRefreshError, events
from evertoken.observability.opentelemetry import OpenTelemetryObserver
from evertoken.stores import MemoryStore


class Telemetry:
    """A meter and a tracer that keep their input."""

    def __init__(self, **options: Any) -> None:
        self.reader = InMemoryMetricReader()
        self.spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.tracer = tracers.get_tracer("test")
        self.observer = OpenTelemetryObserver(
            meter_provider=MeterProvider([self.reader]), tracer_provider=tracers, **options
        )

    def points(self) -> dict[tuple[str, tuple[tuple[str, Any], ...]], Any]:
        data = self.reader.get_metrics_data()
        return {
            (metric.name, tuple(sorted((point.attributes or {}).items()))): point
            for resource in (() if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        }

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans.get_finished_spans() if span.name == name]


@virtual
async def test_metrics(clock):
    """L2: fetches, store steps and gauges, with attributes of few values and without keys."""
    telemetry = Telemetry()
    source = GatedSource(clock, open_=True)
    async with TokenManager(
        source_for=lambda key: source, observers=[telemetry.observer], clock=clock, store=MemoryStore(), namespace="n"
    ) as tokens:
        telemetry.observer.watch(tokens)
        token = await tokens.get("customer-17")
        await tokens.refused(token, "customer-17")
        points = telemetry.points()
    fetched = ("evertoken.fetch.outcome", "refreshed"), ("evertoken.fetch.reason", "absent")
    assert points["evertoken.fetch.duration", fetched].count == 1
    # In seconds, so that not all fetches fall into one bucket.
    assert points["evertoken.fetch.duration", fetched].explicit_bounds[0] == 0.005
    assert points["evertoken.store.duration", (("evertoken.store.operation", "begin"),)].count == 2
    assert points["evertoken.tokens.refused", (("evertoken.refused.outcome", "fetched"),)].value == 1
    manager = (("evertoken.manager", "default"),)
    assert points["evertoken.keys.valid", manager].value == 1
    assert points["evertoken.supervisor.alive", manager].value == 1
    assert "customer-17" not in repr(points)


FAILURES = {
    "failed": (TransientRefreshError("503"), "transient"),
    "rejected": (GrantRejected("invalid_grant"), "rejected"),
}


@virtual
@pytest.mark.parametrize(("outcome", "error", "kind"), [(name, *rest) for name, rest in FAILURES.items()])
async def test_failures_are_errors_of_spans(clock, outcome, error, kind):
    """L2: a fetch that fails is a span with an error, and so is the wait of the caller."""
    telemetry = Telemetry()
    source = GatedSource(clock, open_=True)
    source.error = error
    async with TokenManager(source, observers=[telemetry.observer], clock=clock) as tokens:
        with pytest.raises((TokenUnavailable, GrantRejected)):
            await tokens.get()
    (span,) = telemetry.named("evertoken fetch")
    assert span.attributes["evertoken.fetch.outcome"] == outcome
    assert span.attributes["error.type"] == kind
    assert span.status.status_code is trace.StatusCode.ERROR


@virtual
async def test_a_caller_that_waits_is_part_of_its_trace(clock):
    """L2: the span of a wait belongs to the caller's span, and has the instants of the wait."""
    telemetry = Telemetry()

    async def slow() -> tuple[str, float]:
        await clock.advance(2.0)
        return "token", 300.0

    async with TokenManager(slow, observers=[telemetry.observer], clock=clock) as tokens:
        with telemetry.tracer.start_as_current_span("request") as request:
            await tokens.get()
    (wait,) = telemetry.named("evertoken wait")
    (fetch,) = telemetry.named("evertoken fetch")
    assert wait.parent.span_id == request.get_span_context().span_id
    assert fetch.parent is None
    assert wait.end_time - wait.start_time == pytest.approx(2e9, abs=1e6)
    assert fetch.end_time - fetch.start_time == pytest.approx(2e9, abs=1e6)


COUNTED = {
    "evertoken.tokens.adopted": events.TokenAdopted(at=0.0, fingerprint="f", expires_at=None, due_at=1.0),
    "evertoken.keys.signed_out": events.TokenRevoked(at=0.0, by_peer=True),
    "evertoken.tokens.unkept": events.TokenUnpersisted(at=0.0, fingerprint="f", serving=True),
    "evertoken.fetches.ambiguous": events.FetchAmbiguous(at=0.0, sent_at=0.0, treated="hold"),
    "evertoken.grants.expiring": events.GrantExpiring(at=0.0, expires_at=1.0),
    "evertoken.tokens.short": events.ShorterThanAsked(at=0.0, min_ttl=2.0, remaining=1.0),
    "evertoken.store.failures": events.StoreFailed(at=0.0, operation="read", error="down"),
    "evertoken.supervisor.restarts": events.SupervisorRestarted(at=0.0, error="E", restarts=1),
    "evertoken.clock.steps": events.ClockStepped(at=0.0, by=-3.0),
}


@pytest.mark.parametrize(("name", "event"), COUNTED.items())
def test_counters(name, event):
    """L2: each event that is counted has a counter, and a key becomes an attribute only on request."""
    telemetry = Telemetry(key_attribute=lambda key: "tenant")
    telemetry.observer(event)
    (point,) = [point for (found, _), point in telemetry.points().items() if found == name]
    assert point.value == 1
    assert point.attributes["evertoken.key"] == "tenant"
