"""Prometheus metrics of the service, labelled by route template and never by raw path.

With PROMETHEUS_MULTIPROC_DIR set (BentoML sets it) the workers share one directory, and
any of them answers for all.
"""

from __future__ import annotations

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST

REQUESTS = Counter("aiqleads_http_requests", "Requests answered.", ("method", "route", "status"))
SECONDS = Histogram(
    "aiqleads_http_request_seconds",
    "Time from the request's first byte to the answer's last.",
    ("method", "route"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
FAULTS = Counter("aiqleads_faults", "Requests that failed by a fault of the service.", ("error",))
RANKED = Counter("aiqleads_rankings", "Rankings served.", ("variant",))
CANDIDATES = Histogram(
    "aiqleads_ranking_candidates",
    "Leads scored for one ranking.",
    buckets=(0, 10, 30, 100, 300, 1000, 3000, 10000),
)
SHOWN = Counter("aiqleads_leads_shown", "Leads shown in rankings.")
WITHHELD = Counter(
    "aiqleads_leads_withheld", "Leads ranked high enough to be shown, but not available."
)
REFUSED = Counter("aiqleads_refusals", "Requests refused by a rule.", ("kind",))
SNAPSHOT_AS_OF = Gauge(
    "aiqleads_snapshot_as_of_seconds",
    "Market time of the snapshot in force, seconds since the epoch.",
    multiprocess_mode="mostrecent",
)
SNAPSHOT_LEADS = Gauge(
    "aiqleads_snapshot_leads", "Leads in the snapshot in force.", multiprocess_mode="mostrecent"
)

PUSHES = Counter("aiqleads_pushes", "Bodies pushed by sources and kept.", ("source", "status"))
PUSHES_WAITING = Gauge(
    "aiqleads_pushes_waiting", "Pushed bodies not parsed yet.", multiprocess_mode="mostrecent"
)
PUSHES_FAILED = Gauge(
    "aiqleads_pushes_failed",
    "Pushed bodies that could not be parsed after many tries.",
    multiprocess_mode="mostrecent",
)
OLDEST_PUSH = Gauge(
    "aiqleads_pushes_oldest_age_seconds",
    "Age of the pushed body that waits longest; 0 where none does.",
    multiprocess_mode="mostrecent",
)
WORKER_AGE = Gauge(
    "aiqleads_worker_heartbeat_age_seconds",
    "Time since `aiqleads work` was last seen; infinite where it never was.",
    multiprocess_mode="mostrecent",
)


def intake(waiting: int, failed: int, oldest_age_s: float, worker_age_s: float) -> None:
    """Sets what the inbox and its worker look like at a scrape; ages in seconds."""
    PUSHES_WAITING.set(waiting)
    PUSHES_FAILED.set(failed)
    OLDEST_PUSH.set(oldest_age_s)
    WORKER_AGE.set(worker_age_s)


def exposition() -> bytes:
    """All metrics in Prometheus' text format, of every worker where they share a directory."""
    registry = CollectorRegistry()
    try:
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    except ValueError:  # no shared directory: this process speaks for itself
        registry = REGISTRY
    return generate_latest(registry)
