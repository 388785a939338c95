"""Metrics for Prometheus, through its client library. Needs the extra `prometheus`."""

from __future__ import annotations

from typing import TYPE_CHECKING, final, get_args

from evertoken._model import events, timing_events
from evertoken._model.supervisor_events import ClockStepped, SupervisorRestarted
from evertoken.observability._managers import Managers

try:
    from prometheus_client import REGISTRY, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as _error:
    msg = "evertoken.observability.prometheus needs prometheus-client: pip install 'evertoken[prometheus]'"
    raise ImportError(msg) from _error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from evertoken._engine.session_owner import SessionOwner

__all__ = ["PrometheusObserver"]

# The bounds are in seconds. Most fetches take less than one second, and the longest take up to `fetch_timeout`.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@final
class PrometheusObserver:
    """
    An observer that counts and times the work of managers, in a registry of prometheus_client.

    Give one observer to every manager of the process: `observers=[observer]`. For the gauges, call `watch` with each
    manager. Durations are in seconds. All labels have few values, and no key is a label. The guide "Watch it" lists the
    names, with alert rules and a dashboard.

    Args:
        registry: The registry for the metrics. By default, the global registry of prometheus_client.

        buckets: The upper bounds of the histograms' buckets, in seconds.

    Raises:
        ImportError: The extra is not installed.
        ValueError: *registry* already has these metrics. One observer serves all managers of a process.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, buckets: Sequence[float] = _BUCKETS) -> None:
        self._managers = Managers()

        def histogram(name: str, says: str, label: str, *values: str) -> Histogram:
            made = Histogram(f"evertoken_{name}_seconds", says, [label], registry=registry, buckets=buckets)
            # The series exist from the start, because Prometheus sees no increase in one that begins with its first
            # event.
            for value in values:
                made.labels(value)
            return made

        def counter(name: str, says: str, label: str | None = None, *values: str) -> Counter:
            made = Counter(f"evertoken_{name}", says, () if label is None else [label], registry=registry)
            for value in values:
                made.labels(value)
            return made

        steps = ("begin", "read", "mark", "commit", "abandon")
        outcomes = ("refreshed", "failed", "rejected")
        self._fetches = histogram("fetch", "Time from the start of a fetch to its end.", "outcome", *outcomes)
        self._reasons = counter("fetches", "Fetches that ended.", "reason", *get_args(events.Reason))
        self._waits = histogram("wait", "Time that callers of get() waited for a token.", "outcome", "served", "failed")
        self._store_steps = histogram("store", "Time of the steps of a store that succeeded.", "operation", *steps)
        others = ("renew", "open", "close", "watch")
        self._store_failures = counter("store_failures", "Steps of a store that failed.", "operation", *steps, *others)
        self._refused = counter(
            "tokens_refused", "Tokens that a resource server refused.", "outcome", "fetched", "cooling down"
        )
        self._ambiguous = counter(
            "fetches_ambiguous", "Fetches whose answer was lost.", "treated", *get_args(events.Ambiguity)
        )
        self._counters = {
            events.TokenAdopted: counter("tokens_adopted", "Tokens taken over from a peer."),
            events.TokenRevoked: counter("keys_signed_out", "Keys that were signed out."),
            events.TokenUnpersisted: counter("tokens_unkept", "Tokens that no store kept yet."),
            events.GrantExpiring: counter("grants_expiring", "Warnings of a grant near its end."),
            events.ShorterThanAsked: counter("tokens_short", "Tokens with less life than min_ttl."),
            SupervisorRestarted: counter("supervisor_restarts", "Crashes that the supervisor survived."),
            ClockStepped: counter("clock_steps", "Steps of the wall clock."),
        }
        registry.register(_Gauges(self._managers))

    def watch(self, manager: SessionOwner, name: str = "default") -> None:
        """
        From now on, read the gauges from *manager* as long as it exists.

        Args:
            manager: A manager; it need not be started.

            name: The label `manager`, which tells several managers of one process apart.

        Raises:
            ValueError: Another manager is watched under this name.
        """
        self._managers.add(manager, name)

    def __call__(self, event: events.Event) -> None:
        """Count one event. The manager calls this."""
        match event:
            case events.TokenRefreshed():
                self._fetched("refreshed", event.reason, event.took)
            case events.RefreshFailed() if event.took is not None:
                self._fetched("failed", event.reason, event.took)
            case events.RefreshRejected() if event.took is not None:
                self._fetched("rejected", event.reason, event.took)
            case timing_events.CallerWaited():
                self._waits.labels("served" if event.served else "failed").observe(event.took)
            case timing_events.StoreUsed():
                self._store_steps.labels(event.operation).observe(event.took)
            case events.StoreFailed():
                self._store_failures.labels(event.operation).inc()
            case events.TokenRefused():
                self._refused.labels("cooling down" if event.cooling else "fetched").inc()
            case events.FetchAmbiguous():
                self._ambiguous.labels(event.treated).inc()
            case _:
                counter = self._counters.get(type(event))
                if counter is not None:
                    counter.inc()

    def _fetched(self, outcome: str, reason: str, took: float) -> None:
        self._fetches.labels(outcome).observe(took)
        self._reasons.labels(reason).inc()


@final
class _Gauges(Collector):
    """The gauges that Prometheus reads from the managers at each scrape."""

    def __init__(self, managers: Managers) -> None:
        self._managers = managers

    def describe(self) -> list[Metric]:
        # Without this method the registry would collect once to learn the names.
        return list(self._families().values())

    def collect(self) -> Iterator[Metric]:
        families = self._families()
        for name, manager in self._managers:
            counts, health = manager.counts(), manager.health()
            values = {
                "keys": counts.keys,
                "keys_valid": counts.valid,
                "keys_failing": counts.failing,
                "keys_rejected": counts.rejected,
                "fetches_active": counts.in_flight,
                "fetches_queued": counts.queued,
                "providers_down": counts.providers_down,
                "supervisor_alive": int(health.alive),
                "ready": int(health.ready),
            }
            for metric, value in values.items():
                families[metric].add_metric([name], value)
        yield from families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        says = {
            "keys": "Keys that are open.",
            "keys_valid": "Keys with a valid token.",
            "keys_failing": "Keys whose last fetch failed for a reason that passes.",
            "keys_rejected": "Keys whose grant is rejected: a person must act.",
            "fetches_active": "Fetches under way.",
            "fetches_queued": "Fetches that wait for their turn.",
            "providers_down": "Providers whose fetches fail in a row.",
            "supervisor_alive": "1 while the supervisor runs, else 0.",
            "ready": "1 while the manager is ready, else 0.",
        }
        return {name: GaugeMetricFamily(f"evertoken_{name}", text, labels=["manager"]) for name, text in says.items()}
