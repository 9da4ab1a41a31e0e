"""The command line: results on stdout (one JSON object with `--json`), all else on stderr.

Exit codes: 0 done, 1 a fault of ours, 2 bad input, 3 nothing to do, 4 an alert.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from sqlalchemy import Connection, Engine

from aiqleads.domain import US_PER_DAY, Tier
from aiqleads.errors import AIQLeadsError, InvalidInput, NotReady
from aiqleads.settings import Settings

app = typer.Typer(
    help="AIQLeads: from feeds of real-estate leads to a lead sold, with rankers in between.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
agents_app = typer.Typer(help="The agents who buy leads.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys: shown once, stored hashed.", no_args_is_help=True)
quarantine_app = typer.Typer(help="Rows that were rejected, with reasons.", no_args_is_help=True)
app.add_typer(agents_app, name="agents")
app.add_typer(keys_app, name="keys")
source_app = typer.Typer(help="Sources: their state, and batches taken back.", no_args_is_help=True)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(source_app, name="source")
links_app = typer.Typer(help="Who was found to be one person, and why.", no_args_is_help=True)
app.add_typer(links_app, name="links")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
MarketName = Annotated[
    str, typer.Option("--market", help="A market's name, or the path of its TOML.")
]


def main() -> None:
    """Runs the command line; an error of the tree becomes one line and its exit code."""
    settings = Settings()
    _log_to_stderr(settings)
    try:
        app(obj=settings)
    except AIQLeadsError as error:
        print(f"aiqleads: {' '.join(error.detail.split())}", file=sys.stderr)
        sys.exit(exit_code(error))


def exit_code(error: AIQLeadsError) -> int:
    """2 for what the caller can mend, 1 for a fault of ours."""
    return 2 if isinstance(error, InvalidInput | NotReady) or error.status < 500 else 1


def _log_to_stderr(settings: Settings, level: int = logging.INFO) -> None:
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def emit(result: Any, *, as_json: bool) -> None:
    """Prints a result: one JSON object, or a line a field."""
    plain = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    if as_json:
        print(json.dumps(plain, default=str))
        return
    for name, value in plain.items():
        shown = json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else value
        print(f"{name:<18} {shown}")


@app.command()
def demo(context: typer.Context, as_json: Json = False) -> None:
    """The main job end to end on the sample: leads in, a ranker promoted, a lead bought."""
    from aiqleads.demo import run_demo, show

    _log_to_stderr(context.obj, logging.WARNING)  # the bar and the table tell the rest
    report = run_demo(context.obj)
    if as_json:
        emit(report, as_json=True)
    else:
        show(report)


@app.command()
def sources(as_json: Json = False) -> None:
    """Where leads and sales may come from."""
    from aiqleads.ingest.sources import SOURCES

    rows = {name: {"kind": s.kind, "rights": s.rights} for name, s in SOURCES.items()}
    emit({"sources": rows} if as_json else rows, as_json=as_json)


@app.command()
def ingest(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="A name that `aiqleads sources` lists.")],
    payloads: Annotated[
        list[str] | None,
        typer.Argument(help="Files, or https:// addresses to pull; none: the market file's own."),
    ] = None,
    market: MarketName = "lucas",
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="What changed in the feed is normal from now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Parse, validate, normalise, link, score and store; a killed run goes on where it stood."""
    from aiqleads.ingest.aggregate import ingest as ingest_source
    from aiqleads.ingest.market import load_market

    report = ingest_source(
        context.obj,
        source,
        [each if "://" in each else Path(each) for each in payloads or []],
        load_market(market, context.obj),
        on_drift="accept" if accept_changes else "stop",
    )
    emit(report, as_json=as_json)
    if report.stopped:
        print(f"aiqleads: the source {source} is stopped: {report.stopped}", file=sys.stderr)
    elif report.quarantined and report.quarantined == report.rows_read:
        print("aiqleads: no row holds; all are in quarantine", file=sys.stderr)
    else:
        return
    raise typer.Exit(4)


@quarantine_app.command("list")
def quarantine_list(
    context: typer.Context,
    batch: Annotated[str, typer.Option(help="One batch alone.")] = "",
    as_json: Json = False,
) -> None:
    """Rejected rows, counted by rule."""
    from aiqleads.store.batches import quarantine_counts
    from aiqleads.store.database import open_room

    counts = quarantine_counts(open_room(context.obj, "leads"), [batch] if batch else None)
    emit({"rules": counts}, as_json=as_json)


@quarantine_app.command("replay")
def quarantine_replay(
    context: typer.Context,
    batch: Annotated[str, typer.Option(help="One batch alone.")] = "",
    as_json: Json = False,
) -> None:
    """Try rejected rows again with today's parsers; those that hold are taken in."""
    from aiqleads.ingest.replay import replay

    report = replay(context.obj, batch or None)
    emit(report, as_json=as_json)
    raise typer.Exit(0 if report.held else 3)


@links_app.command("explain")
def links_explain(
    context: typer.Context,
    lead_id: Annotated[str, typer.Argument(metavar="LEAD", help="A lead's id.")],
    as_json: Json = False,
) -> None:
    """Why a lead's submissions are one person: comparisons and weights, nothing they wrote."""
    from aiqleads.ingest.linkage import explain
    from aiqleads.store.database import open_room, reader

    with reader(open_room(context.obj, "leads")).connect() as connection:
        found = explain(connection, lead_id)
    emit({"links": found}, as_json=as_json)


@links_app.command("undo")
def links_undo(
    context: typer.Context,
    a: Annotated[str, typer.Argument(help="A submission, as `links explain` names it.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
    as_json: Json = False,
) -> None:
    """Take a link back: the two stay apart, and leads it had merged stand for themselves."""
    from aiqleads.ingest.unlink import undo_link

    emit(undo_link(context.obj, a, b), as_json=as_json)


@source_app.command("list")
def source_list(context: typer.Context, as_json: Json = False) -> None:
    """Every source: its state, what is in store of it, and pushes that wait or failed."""
    from aiqleads.store import inbox, sources
    from aiqleads.store.database import open_room, reader

    waiting = inbox.counts(open_room(context.obj, "vault"))
    with reader(open_room(context.obj, "leads")).connect() as connection:
        states, held = sources.all_states(connection), sources.held(connection)
    rows = {
        name: {
            "state": states.get(name, sources.SourceState()).state,
            "reason": states.get(name, sources.SourceState()).reason,
            **asdict(held.get(name, sources.Held())),
            "pushes_waiting": waiting.get(name, inbox.Waiting()).waiting,
            "pushes_failed": waiting.get(name, inbox.Waiting()).failed,
        }
        for name in sorted({*states, *held, *waiting})
    }
    emit({"sources": rows} if as_json else rows, as_json=as_json)


@source_app.command("pause")
def source_pause(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A source.")],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")] = "",
    as_json: Json = False,
) -> None:
    """Take nothing more in from a source, and sell nothing of it; pushes wait."""
    from aiqleads.store import sources

    with _known_source(context.obj, name) as connection:
        now = sources.pause(connection, name, reason or "by hand", _now_us())
    emit({"source": name, **asdict(now)}, as_json=as_json)


@source_app.command("resume")
def source_resume(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A source.")],
    as_json: Json = False,
) -> None:
    """Take a source in and sell it again; pushes that failed are tried again."""
    from aiqleads.store import inbox, sources
    from aiqleads.store.vault import Vault

    with _known_source(context.obj, name) as connection:
        now = sources.resume(connection, name, _now_us())
    again = inbox.try_again(Vault.open(context.obj), name)
    emit({"source": name, **asdict(now), "pushes_tried_again": again}, as_json=as_json)


@source_app.command("recall")
def source_recall(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A source.")],
    batch: Annotated[str, typer.Option(help="One batch, as an ingest named it.")] = "",
    since: Annotated[
        datetime | None, typer.Option(help="Batches ingested from then on, UTC.")
    ] = None,
    until: Annotated[datetime | None, typer.Option(help="Batches before that, UTC.")] = None,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")] = "",
    as_json: Json = False,
) -> None:
    """Take batches back (without options all of the source): who is to be credited what."""
    from aiqleads.commerce.recall import recall
    from aiqleads.store.database import open_room

    with _commerce(context.obj) as engine:
        found = recall(
            open_room(context.obj, "leads"),
            engine,
            name,
            reason or "by hand",
            _now_us(),
            batch_id=batch or None,
            since_us=_utc_us(since),
            until_us=_utc_us(until),
        )
    emit(found, as_json=as_json)


@source_app.command("report")
def source_report(
    context: typer.Context,
    out: Annotated[Path | None, typer.Option(help="Folder; default: reports/sources.")] = None,
    as_json: Json = False,
) -> None:
    """An HTML page for each source: its batches over time, reasons, drift, sales."""
    from aiqleads.monitoring.source_pages import write_pages

    settings: Settings = context.obj
    paths = write_pages(settings, out or settings.reports / "sources", _now_us())
    emit({"pages": [str(path) for path in paths]}, as_json=as_json)


@app.command()
def work(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Do what waits, then end.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.05, max=3600, help="Seconds between looks at the inbox.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """The background process: parse pushes, publish, heal payments, deliver what was sold."""
    import threading

    from aiqleads.commerce import figures
    from aiqleads.work import Rhythm
    from aiqleads.work import work as run

    figures.check()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    done = run(context.obj, once=once, stop=stop, rhythm=Rhythm(interval=interval))
    emit(done, as_json=as_json)
    if once:
        did = (done.pushes, done.put_off, done.published, done.payments, done.delivered)
        went_wrong = done.failed or done.undelivered or done.faults
        raise typer.Exit(4 if went_wrong else 0 if any(did) else 3)


@app.command()
def simulate(
    context: typer.Context,
    preset: Annotated[str, typer.Option(help="A preset's name, or the path of its TOML.")] = "calm",
    agents: Annotated[int, typer.Option(min=2, help="Simulated agents.")] = 120,
    days: Annotated[int | None, typer.Option(min=1, help="Days; all when not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn.")] = 7,
    market: MarketName = "lucas",
    as_json: Json = False,
) -> None:
    """The simulated market over the stored leads: who saw, held and bought what."""
    from aiqleads.pipeline import run_stage
    from aiqleads.stages import stage_named

    given = {"market": market, "preset": preset, "agents": agents, "days": days, "seed": seed}
    run = run_stage(context.obj, stage_named("simulate"), given)
    emit(run.results, as_json=as_json)


@app.command("run")
def run_command(
    context: typer.Context,
    stage: Annotated[str, typer.Argument(help="A stage's name, or `all`.")],
    parameters: Annotated[
        list[str] | None, typer.Option("-p", help="A parameter as name=value.")
    ] = None,
    as_of: Annotated[
        datetime | None, typer.Option("--as-of", help="The market clock, UTC.")
    ] = None,
    market: MarketName = "lucas",
    as_json: Json = False,
) -> None:
    """Run a stage; a stage whose inputs have not changed is not run again."""
    from aiqleads.pipeline import run_stage
    from aiqleads.stages import STAGES, stage_named

    given: dict[str, Any] = {"market": market, **_parameters(parameters or [])}
    if as_of is not None:
        given["as_of"] = as_of.isoformat()
    chosen = STAGES if stage == "all" else (stage_named(stage),)
    runs = [
        run_stage(context.obj, each, given if len(chosen) == 1 else {"market": market})
        for each in chosen
    ]
    emit(runs[0] if len(runs) == 1 else {r.stage: asdict(r) for r in runs}, as_json=as_json)
    raise typer.Exit(max(run.exit_code for run in runs))


def _parameters(pairs: list[str]) -> dict[str, Any]:
    """name=value pairs; a value is JSON where it can be read as such, else text."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidInput(f"-p takes name=value, not {pair!r}")
        try:
            given[name] = json.loads(value)
        except json.JSONDecodeError:
            given[name] = value
    return given


@app.command()
def compare(context: typer.Context, market: MarketName = "lucas", as_json: Json = False) -> None:
    """Measure rankers on the held-out window, with intervals; then the gate decides."""
    from aiqleads.pipeline import run_stage
    from aiqleads.stages import stage_named

    run = run_stage(context.obj, stage_named("compare_rankers"), {"market": market})
    emit(run.results, as_json=as_json)


@app.command()
def promote(
    context: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The MLflow run of a ranker.")],
    market: MarketName = "lucas",
    as_json: Json = False,
) -> None:
    """Make a run's model the champion, if the last comparison lets it."""
    from aiqleads.ranking.promote import promote_run

    verdict = promote_run(context.obj, run_id, market)
    emit({"promoted": verdict.promoted, **asdict(verdict)}, as_json=as_json)
    raise typer.Exit(0 if verdict.promoted else 3)


@app.command()
def rollback(context: typer.Context, as_json: Json = False) -> None:
    """Put the previous champion back."""
    from aiqleads.ranking import registry

    model = registry.rollback(context.obj)
    emit({"champion": model.card.version, "run": model.run_id}, as_json=as_json)


@app.command()
def publish(
    context: typer.Context,
    as_of: Annotated[str, typer.Option("--as-of", help="The market clock, ISO, UTC.")] = "",
    market: MarketName = "lucas",
    as_json: Json = False,
) -> None:
    """A new serving snapshot; running workers take it without a restart."""
    from aiqleads.stages import publish_snapshot

    emit(publish_snapshot(context.obj, market, as_of), as_json=as_json)


@app.command()
def package(context: typer.Context, as_json: Json = False) -> None:
    """The champion as a built bento, complete with model and lock."""
    from aiqleads.stages import package_champion

    emit(package_champion(context.obj), as_json=as_json)


@app.command()
def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(help="TCP port on 127.0.0.1.")] = 3000,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
) -> None:
    """Serve the bento that was built last, until interrupted."""
    from aiqleads.stages import bento_record, bento_shell

    settings: Settings = context.obj
    record = bento_record(settings)
    if not record.is_file():
        raise NotReady("no bento is built yet: aiqleads package (`make demo` does all of it)")
    built = json.loads(record.read_text())
    process = bento_shell(settings).serve(settings, built["path"], port, workers)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: process.terminate())
    print(f"http://127.0.0.1:{port}  ({built['tag']}, ranker {built['champion']})", file=sys.stderr)
    code = process.wait()
    raise typer.Exit(0 if code in (0, -signal.SIGTERM) else 1)


@agents_app.command("add")
def agents_add(
    context: typer.Context,
    agent_id: Annotated[str, typer.Argument(help="At most 20 characters, A0001 say.")],
    name: Annotated[str, typer.Option(help="The account's name.")],
    tier: Annotated[Tier, typer.Option(help="What the agent subscribes to.")] = Tier.BASIC,
    market: MarketName = "lucas",
    as_json: Json = False,
) -> None:
    """Register an agent, or renew name, tier and market of one that is known."""
    from aiqleads.store import agents

    with _commerce(context.obj) as engine:
        new = agents.add(engine, [agents.Agent(agent_id, name, tier, market)], _now_us())
    emit({"agent_id": agent_id, "new": bool(new)}, as_json=as_json)


@agents_app.command("list")
def agents_list(context: typer.Context, as_json: Json = False) -> None:
    """Every agent: name, tier, market."""
    from aiqleads.store import agents

    with _commerce(context.obj) as engine:
        rows = {one.agent_id: asdict(one) for one in agents.all_agents(engine)}
    emit({"agents": list(rows.values())} if as_json else rows, as_json=as_json)


@keys_app.command("create")
def keys_create(
    context: typer.Context,
    agent_id: Annotated[str, typer.Argument(metavar="AGENT", help="An agent, or `operator`.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="Repeatable; default: all of its kind.")
    ] = None,
    days: Annotated[
        float | None, typer.Option(help="Days until it expires; never if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """A new API key; it is shown here and never again."""
    from aiqleads.store import agents

    owner = None if agent_id == "operator" else agent_id
    scopes = scope or (agents.AGENT_SCOPES if owner else agents.SCOPES)
    now_us = _now_us()
    expires_us = None if days is None else now_us + int(days * US_PER_DAY)
    with _commerce(context.obj) as engine:
        text, key = agents.create_key(engine, owner, scopes, now_us, expires_us)
    emit({"key": text, "key_id": key.key_id, "scopes": sorted(key.scopes)}, as_json=as_json)


@keys_app.command("revoke")
def keys_revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The key's id, k_...")],
    as_json: Json = False,
) -> None:
    """Revoke a key for good."""
    from aiqleads.store import agents

    with _commerce(context.obj) as engine:
        agents.revoke_key(engine, key_id, _now_us())
    emit({"key_id": key_id, "revoked": True}, as_json=as_json)


@app.command("do-not-call")
def take_do_not_call(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Numbers, one a line.")],
    as_of: Annotated[
        datetime | None, typer.Option(help="When the list was drawn (UTC); now if not given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in the do-not-call list, in the place of the one before; it counts for 31 days."""
    from aiqleads.store import do_not_call
    from aiqleads.store.vault import Vault

    drawn_us, vault = _utc_us(as_of) or _now_us(), Vault.open(context.obj)
    with _commerce(context.obj) as engine, file.open(encoding="ascii", errors="replace") as lines:
        count = do_not_call.replace(engine, vault, lines, drawn_us)
    vault.close()
    emit({"numbers": count}, as_json=as_json)


@app.command()
def reconcile(context: typer.Context, as_json: Json = False) -> None:
    """Heal every payment whose outcome is open."""
    from aiqleads.commerce.consent import Register
    from aiqleads.commerce.payments import open_payments
    from aiqleads.commerce.reconcile import sweep
    from aiqleads.store.database import open_room

    register = Register(open_room(context.obj, "leads"))
    with _commerce(context.obj) as engine:
        healed = sweep(engine, open_payments(context.obj), _now_us(), register=register)
    emit(healed, as_json=as_json)


@app.command()
def suppress(
    context: typer.Context,
    file: Annotated[Path, typer.Option(help="CSV of e-mails and phones.", exists=True)],
    reason: Annotated[str, typer.Option(help="Why, for whoever reads it later.")] = "by hand",
    lift: Annotated[bool, typer.Option("--lift", help="End their suppression instead.")] = False,
    as_json: Json = False,
) -> None:
    """Sell nobody of a list any more: unsold slots close, holders and buyers are told."""
    from aiqleads.commerce import consent
    from aiqleads.commerce.contacts import contacts_in
    from aiqleads.store.database import open_room
    from aiqleads.store.vault import Vault

    contacts = contacts_in(file.read_text(encoding="utf-8-sig", errors="replace"))
    leads, vault, now_us = open_room(context.obj, "leads"), Vault.open(context.obj), _now_us()
    if lift:
        emit(consent.lift(leads, vault, contacts, "cli", now_us), as_json=as_json)
        return
    with _commerce(context.obj) as engine:
        found = consent.suppress(leads, engine, vault, contacts, reason, "cli", now_us)
    emit(found, as_json=as_json)


@app.command()
def invariants(context: typer.Context, as_json: Json = False) -> None:
    """Check every invariant of the shop on the live data; one broken is exit code 4."""
    from aiqleads.commerce.invariants import check
    from aiqleads.commerce.payments import open_payments
    from aiqleads.store.database import open_room

    leads = open_room(context.obj, "leads")
    with _commerce(context.obj) as engine:
        found = check(engine, open_payments(context.obj), _now_us(), leads=leads)
    broken = {name: one.offenders for name, one in found.items() if one.ok is False}
    if as_json:
        emit({name: one.ok for name, one in found.items()} | {"broken": broken}, as_json=True)
    else:
        words = {True: "ok", False: "BROKEN", None: "could not be asked"}
        for name, one in found.items():
            print(f"{name}  {words[one.ok]:<18} {one.about} {', '.join(one.offenders)}".rstrip())
    raise typer.Exit(4 if broken else 0)


@contextmanager
def _commerce(settings: Settings) -> Iterator[Engine]:
    from aiqleads.store.database import open_room

    engine = open_room(settings, "commerce")
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _known_source(settings: Settings, name: str) -> Iterator[Connection]:
    """A transaction on the leads room; UnknownName for what neither is a source nor has leads."""
    from aiqleads.ingest.sources import source_named
    from aiqleads.store import sources
    from aiqleads.store.database import open_room
    from aiqleads.store.transactions import writing

    with writing(open_room(settings, "leads")) as connection:
        if name not in sources.held(connection):
            source_named(name)
        yield connection


def _utc_us(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(zoned.timestamp() * 1_000_000)


def _now_us() -> int:
    return time.time_ns() // 1000
