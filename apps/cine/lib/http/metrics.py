"""Numbers for Prometheus: requests, latencies, cases, queue, jobs; no name of a patient or case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

Gauges = Mapping[str, tuple[str, Callable[[], Mapping[str, float]]]]


class Metrics:
    """The counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cinelabel_http_requests",
            "Requests by route and status.",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "cinelabel_http_request_seconds",
            "Time until the whole answer was sent.",
            ["route"],
            buckets=BUCKETS_S,
            registry=self._registry,
        )

    def watch(self, gauges: Gauges) -> None:
        """Add numbers that are asked for whenever somebody reads: name -> (help, values).

        Each function gives a value for every value of the label `state`.
        """
        self._registry.register(_Asked(gauges))

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = method if method in METHODS else "OTHER"
        self._requests.labels(known, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus' text form."""
        return generate_latest(self._registry)


class _Asked(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for name, (text, values) in self._gauges.items():
            family = GaugeMetricFamily(f"cinelabel_{name}", text, labels=["state"])
            for state, value in values().items():
                family.add_metric([state], value)
            yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The names alone, so that nothing is asked when the collector is registered."""
        for name, (text, _) in self._gauges.items():
            yield GaugeMetricFamily(f"cinelabel_{name}", text, labels=["state"])
