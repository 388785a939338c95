"""Metrics and spans through the API of OpenTelemetry. Needs the extra `opentelemetry`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias, final

from evertoken._model import events, timing_events
from evertoken._model.supervisor_events import ClockStepped, SupervisorRestarted
from evertoken.observability._managers import Managers

try:
    from opentelemetry import metrics, trace
    from opentelemetry.context import Context
except ImportError as _error:
    msg = "evertoken.observability.opentelemetry needs opentelemetry: pip install 'evertoken[opentelemetry]'"
    raise ImportError(msg) from _error

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import TracerProvider
    from opentelemetry.util.types import AttributeValue

    from evertoken._engine.session_owner import SessionOwner
    from evertoken._model.snapshot import Counts

__all__ = ["OpenTelemetryObserver"]

_SCOPE = "evertoken"
# The bucket bounds that OpenTelemetry's conventions use for requests. An SDK may use others.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_Fetched: TypeAlias = "events.TokenRefreshed | events.RefreshFailed | events.RefreshRejected"


@final
class OpenTelemetryObserver:
    """
    An observer that counts and times the work of managers, with OpenTelemetry's metrics and spans.

    Give one observer to every manager: `observers=[observer]`. For the gauges, call `watch` with each manager.
    Durations are in seconds, as the conventions of OpenTelemetry require. All attributes have few values, so that any
    number of keys costs the same. The guide "Watch it" lists the names and attributes.

    Each fetch, each step of a store and each caller that waited becomes a span. The span is made after it has ended.
    The span of a caller belongs to the current span of the code that calls `get`.

    Args:
        meter_provider: The provider for metrics. By default, the global one.

        tracer_provider: The provider for spans. By default, the global one.

        key_attribute:
            A function that receives a key, and returns a text for the attribute `evertoken.key` of metrics and spans,
            or None. By default no key is recorded, because each value creates its own time series.

    Raises:
        ImportError: The extra is not installed.
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        key_attribute: Callable[[Hashable], str | None] | None = None,
    ) -> None:
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        self._key_attribute = key_attribute
        self._managers = Managers()
        histogram = partial(meter.create_histogram, explicit_bucket_boundaries_advisory=_SECONDS)
        counter = meter.create_counter
        self._fetches = histogram("evertoken.fetch.duration", "s", "Time from the start of a fetch to its end.")
        self._waits = histogram("evertoken.wait.duration", "s", "Time that callers of get() waited for a token.")
        self._store_steps = histogram("evertoken.store.duration", "s", "Time of the steps of a store that succeeded.")
        self._counters = {
            events.TokenAdopted: counter("evertoken.tokens.adopted", "{token}", "Tokens taken over from a peer."),
            events.TokenRefused: counter("evertoken.tokens.refused", "{token}", "Tokens that a resource refused."),
            events.TokenRevoked: counter("evertoken.keys.signed_out", "{key}", "Keys that were signed out."),
            events.TokenUnpersisted: counter("evertoken.tokens.unkept", "{token}", "Tokens that no store kept yet."),
            events.FetchAmbiguous: counter("evertoken.fetches.ambiguous", "{fetch}", "Fetches whose answer was lost."),
            events.GrantExpiring: counter("evertoken.grants.expiring", "{grant}", "Warnings of a grant near its end."),
            events.ShorterThanAsked: counter("evertoken.tokens.short", "{token}", "Tokens with less than min_ttl."),
            events.StoreFailed: counter("evertoken.store.failures", "{step}", "Steps of a store that failed."),
            SupervisorRestarted: counter("evertoken.supervisor.restarts", "{restart}", "Crashes survived."),
            ClockStepped: counter("evertoken.clock.steps", "{step}", "Steps of the wall clock."),
        }
        gauges: dict[str, tuple[str, str, Callable[[Counts], int]]] = {
            "evertoken.keys.open": ("{key}", "Keys that are open.", lambda counts: counts.keys),
            "evertoken.keys.valid": ("{key}", "Keys with a valid token.", lambda counts: counts.valid),
            "evertoken.keys.failing": ("{key}", "Keys whose last fetch failed.", lambda counts: counts.failing),
            "evertoken.keys.rejected": ("{key}", "Keys that need a person.", lambda counts: counts.rejected),
            "evertoken.fetches.active": ("{fetch}", "Fetches under way.", lambda counts: counts.in_flight),
            "evertoken.providers.down": (
                "{provider}",
                "Providers whose fetches fail in a row.",
                lambda counts: counts.providers_down,
            ),
            "evertoken.fetches.queued": ("{fetch}", "Fetches that wait for their turn.", lambda counts: counts.queued),
        }
        for name, (unit, says, read) in gauges.items():
            meter.create_observable_gauge(name, [self._reader(read)], unit, says)
        meter.create_observable_gauge(
            "evertoken.supervisor.alive", [self._alive], "1", "1 while the supervisor runs, else 0."
        )

    def watch(self, manager: SessionOwner, name: str = "default") -> None:
        """
        From now on, read the gauges from *manager* as long as it exists.

        Args:
            manager: A manager; it need not be started.

            name: The attribute `evertoken.manager`, which tells several managers of one process apart.

        Raises:
            ValueError: Another manager is watched under this name.
        """
        self._managers.add(manager, name)

    def __call__(self, event: events.Event) -> None:
        """Count one event. The manager calls this."""
        match event:
            case events.TokenRefreshed():
                self._fetched(event, event.took, {"evertoken.fetch.outcome": "refreshed"})
            case events.RefreshFailed() if event.took is not None:
                self._fetched(event, event.took, {"evertoken.fetch.outcome": "failed", "error.type": "transient"})
            case events.RefreshRejected() if event.took is not None:
                told = {"evertoken.fetch.outcome": "rejected", "error.type": "rejected"}
                self._fetched(event, event.took, told)
            case timing_events.CallerWaited():
                outcome = "served" if event.served else "failed"
                attributes = self._attributes(event, {"evertoken.wait.outcome": outcome})
                self._waits.record(event.took, attributes)
                self._span("evertoken wait", event, event.took, attributes, failed=not event.served)
            case timing_events.StoreUsed():
                attributes = self._attributes(event, {"evertoken.store.operation": event.operation})
                self._store_steps.record(event.took, attributes)
                self._span(f"evertoken store {event.operation}", event, event.took, attributes)
            case _:
                counter = self._counters.get(type(event))
                if counter is not None:
                    counter.add(1, self._attributes(event, _told(event)))

    def _fetched(self, event: _Fetched, took: float, told: dict[str, str]) -> None:
        attributes = self._attributes(event, {"evertoken.fetch.reason": event.reason, **told})
        self._fetches.record(took, attributes)
        self._span("evertoken fetch", event, took, attributes, failed="error.type" in told)

    def _span(
        self,
        name: str,
        event: events.Event,
        took: float,
        told: dict[str, AttributeValue],
        *,
        failed: bool = False,
    ) -> None:
        end = int(event.at * 1e9)
        # A fetch is shared, so it does not belong to the trace of its first caller.
        parent = None if isinstance(event, timing_events.CallerWaited) else Context()
        span = self._tracer.start_span(name, parent, start_time=end - int(took * 1e9), attributes=told)
        if failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end(end)

    def _attributes(self, event: events.Event, told: dict[str, str]) -> dict[str, AttributeValue]:
        found: dict[str, AttributeValue] = {**told}
        key = None if self._key_attribute is None else self._key_attribute(event.key)
        if key is not None:
            found["evertoken.key"] = key
        return found

    def _reader(self, read: Callable[[Counts], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterator[Observation]:
            for name, manager in self._managers:
                yield metrics.Observation(read(manager.counts()), {"evertoken.manager": name})

        return observe

    def _alive(self, _: CallbackOptions) -> Iterator[Observation]:
        for name, manager in self._managers:
            yield metrics.Observation(int(manager.health().alive), {"evertoken.manager": name})


def _told(event: events.Event) -> dict[str, str]:
    match event:
        case events.StoreFailed(operation=operation):
            return {"evertoken.store.operation": operation}
        case events.FetchAmbiguous(treated=treated):
            return {"evertoken.fetch.treated": treated}
        case events.TokenRefused(cooling=cooling):
            return {"evertoken.refused.outcome": "cooling down" if cooling else "fetched"}
        case _:
            return {}
