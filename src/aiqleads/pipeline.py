"""The stages: immutable inputs and parameters in, a finished run out, once.

A stage is a row of `STAGES`: a notebook that Papermill executes, or a function. Its run
key digests all that its outcome depends on: the notebook's source, the parameters, the
files it reads, the run keys of the stages before it, this package's source and the lock.
A stage whose newest finished run has the same key, and whose outputs are still there, is
not run again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
import structlog
from traitlets.config import Config

from aiqleads import errors
from aiqleads.errors import AIQLeadsError, InvalidInput, NotReady, UnknownName
from aiqleads.ingest.market import load_market
from aiqleads.notebook import RESULT_MEDIA_TYPE
from aiqleads.settings import Settings

log = structlog.get_logger(__name__)

Parameters = Mapping[str, Any]
EXIT_OK, EXIT_SKIPPED, EXIT_ALERT = 0, 3, 4


@dataclass(frozen=True)
class Stage:
    """One row: `work` is a notebook's name or a function (settings, **parameters) -> results.

    `reads` and `writes` are paths under HOME, `{market}` standing for the market's name;
    what lies behind `reads` enters the run key, what `writes` names must exist for a
    finished run to count. `after` names stages whose newest run key enters it too, where
    what they leave cannot be told by a file.
    """

    name: str
    work: str | Callable[..., dict[str, Any]]
    about: str
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A finished run of a stage; `fresh` is false when it was finished before."""

    stage: str
    run_key: str
    parameters: dict[str, Any]
    results: dict[str, Any]
    seconds: float
    notebook: str | None = None
    outputs: list[str] = field(default_factory=list)
    fresh: bool = True

    @property
    def exit_code(self) -> int:
        """0 done, 3 there was nothing to do, 4 the stage raises an alert."""
        if self.results.get("alert"):
            return EXIT_ALERT
        return EXIT_SKIPPED if self.results.get("skipped") else EXIT_OK


class StageFailed(AIQLeadsError):
    """A notebook's cell raised; the executed copy with the error is kept."""

    kind = "stage-failed"


def run_stage(
    settings: Settings, stage: Stage, parameters: Parameters, *, progress: bool = True
) -> Run:
    """Runs a stage, or gives back its finished run when nothing it depends on has changed.

    Raises UnknownName for a parameter that the stage does not have, InvalidInput when the
    stage runs already in another process, StageFailed when it breaks.
    """
    given = {"home": str(settings.home), **parameters}
    market = _market_name(settings, given)
    with _alone(settings, f"{stage.name}-{market}"):
        key = run_key(settings, stage, given)
        finished = latest(settings, stage.name, market)
        if finished and finished.run_key == key and _outputs_exist(settings, stage, market):
            log.info("stage is finished already", stage=stage.name, run_key=key)
            return finished
        started = time.monotonic()
        os.environ["AIQLEADS_RUN_KEY"] = key  # the notebook tags its MLflow run with it
        results, executed = _execute(settings, stage, given, key, progress=progress)
        run = Run(
            stage=stage.name,
            run_key=key,
            parameters={k: v for k, v in given.items() if k != "home"},
            results=json.loads(json.dumps(results, default=str)),
            seconds=round(time.monotonic() - started, 2),
            notebook=None if executed is None else str(executed.relative_to(settings.home)),
            outputs=[_place(path, market) for path in stage.writes],
        )
        _finish(settings, run, market)
        return run


def run_key(settings: Settings, stage: Stage, parameters: Parameters) -> str:
    """16 hex digits that change when anything does on which the stage's outcome depends."""
    market = _market_name(settings, parameters)
    parts: dict[str, Any] = {
        "stage": stage.name,
        "parameters": {k: parameters[k] for k in sorted(parameters) if k != "home"},
        "source": source_digest(),
        "notebook": _digest(notebook_path(settings, stage.work))
        if isinstance(stage.work, str)
        else None,
        "reads": {p: _digest(settings.home / _place(p, market)) for p in stage.reads},
        "after": {name: _last_key(settings, name, market) for name in stage.after},
        "market": _market_digest(settings, parameters),
    }
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def latest(settings: Settings, stage: str, market: str) -> Run | None:
    """The newest finished run of a stage on a market."""
    record = _records(settings, stage) / f"latest-{market or 'all'}.json"
    if not record.is_file():
        return None
    return Run(**{**json.loads(record.read_text()), "fresh": False})


def notebook_path(settings: Settings, name: str) -> Path:
    """Where a notebook lies."""
    return checkout_path(settings, f"notebooks/{name}.ipynb")


def checkout_path(settings: Settings, relative: str) -> Path:
    """A file beside the package: under HOME, else in the checkout that holds this package."""
    checkout = Path(__file__).resolve().parents[2]
    for root in (settings.home, checkout):
        if (root / relative).is_file():
            return root / relative
    raise NotReady(f"{relative} is neither under {settings.home} nor in {checkout}")


@lru_cache
def source_digest() -> str:
    """Digest of this package's source, of the bento's shell and of the environment's lock."""
    package = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for root in (package, package.parents[1] / "bentos"):
        for path in sorted(root.rglob("*")):
            if path.suffix in {".py", ".toml", ".json", ".yaml", ".html"}:
                digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    lock = package.parents[1] / "requirements.lock"
    digest.update(lock.read_bytes() if lock.is_file() else b"")
    return digest.hexdigest()


def _execute(
    settings: Settings, stage: Stage, given: Parameters, key: str, *, progress: bool
) -> tuple[dict[str, Any], Path | None]:
    if isinstance(stage.work, str):
        executed = _records(settings, stage.name) / f"{key}.ipynb"
        source = notebook_path(settings, stage.work)
        return execute_notebook(source, executed, given, progress=progress), executed
    return stage.work(settings, **{k: v for k, v in given.items() if k != "home"}), None


def execute_notebook(
    source: Path, executed: Path, parameters: Parameters, *, progress: bool = False
) -> dict[str, Any]:
    """Executes a notebook through Papermill and returns its named results.

    Papermill only warns of a parameter that the notebook does not have, and of a notebook
    without a `parameters` cell; both are refused here (UnknownName, InvalidInput).
    """
    import papermill  # 1.6 s, and only where a notebook runs
    from papermill.exceptions import PapermillExecutionError

    known = set(papermill.inspect_notebook(str(source)))
    if not known:
        raise InvalidInput(f"{source.name} has no cell tagged `parameters`")
    unknown = sorted(set(parameters) - known)
    if unknown:
        names = ", ".join(sorted(known))
        raise UnknownName(f"{source.name} has no parameter {', '.join(unknown)}; it has {names}")
    executed.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The kernel talks over sockets in a private folder: nobody else on the machine listens.
        with TemporaryDirectory(prefix="aiqleads-") as sockets:
            papermill.execute_notebook(
                str(source),
                str(executed),
                parameters=dict(parameters),
                kernel_name="python3",
                config=Config({"KernelManager": {"transport": "ipc", "ip": f"{sockets}/kernel"}}),
                progress_bar={"desc": source.stem, "leave": False} if progress else False,
                cwd=str(source.parent),
                store_widget_state=False,
            )
    except PapermillExecutionError as error:
        failed = executed.with_suffix(".failed.ipynb")
        executed.replace(failed)
        kind = getattr(errors, str(error.ename), None)
        if isinstance(kind, type) and issubclass(kind, InvalidInput | NotReady):
            raise kind(f"{source.stem}: {error.evalue}") from error
        raise StageFailed(f"{source.stem}: {error.ename}: {error.evalue} (see {failed})") from error
    return named_results(executed)


def named_results(executed: Path) -> dict[str, Any]:
    """What the cells of an executed notebook recorded, later names over earlier ones."""
    results: dict[str, Any] = {}
    book = nbformat.read(executed, as_version=4)  # type: ignore[no-untyped-call]
    for cell in book.cells:
        for output in cell.get("outputs", []):
            results.update(output.get("data", {}).get(RESULT_MEDIA_TYPE, {}))
    return results


def _records(settings: Settings, stage: str) -> Path:
    return settings.reports / "runs" / stage


def _finish(settings: Settings, run: Run, market: str) -> None:
    folder = _records(settings, run.stage)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(run), indent=1)
    for name in (f"{run.run_key}.json", f"latest-{market or 'all'}.json"):
        partial = folder / f".{name}.partial"
        partial.write_text(text)
        partial.replace(folder / name)


def _last_key(settings: Settings, stage: str, market: str) -> str:
    run = latest(settings, stage, market)
    return run.run_key if run else "never"


def _outputs_exist(settings: Settings, stage: Stage, market: str) -> bool:
    return all((settings.home / _place(path, market)).exists() for path in stage.writes)


def _market_name(settings: Settings, parameters: Parameters) -> str:
    """Name of the market that a stage works on; empty for a stage without one."""
    given = parameters.get("market")
    return load_market(given, settings).name if given else ""


def _market_digest(settings: Settings, parameters: Parameters) -> str:
    """Digest of the market's own file and of the sales that it points to."""
    given = parameters.get("market")
    if not given:
        return ""
    market = load_market(given, settings)
    sales = _digest(market.sales.path) if market.sales and market.sales.path else ""
    return hashlib.sha256((market.model_dump_json() + sales).encode()).hexdigest()


def _place(path: str, market: str) -> str:
    return path.format(market=market)


def _digest(path: Path) -> str:
    """Digest of a file, or of all files of a directory; missing ones digest as such."""
    if not path.exists():
        return "missing"
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


@contextmanager
def _alone(settings: Settings, name: str) -> Iterator[None]:
    """Holds the stage's lock; the system drops it with the process, however that ends."""
    folder = settings.data / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(f"{name} is running in another process") from error
        yield
