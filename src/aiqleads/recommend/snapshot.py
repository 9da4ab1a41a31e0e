"""A snapshot: all that ranking needs at one moment, as memory-mapped columns.

One directory per version, never changed after it was published; the file `current` names
the version in force and is replaced atomically, so workers follow without a restart.

    manifest.json          what the columns are, of which market and moment
    lead_id.npy            (n,) bytes        leads lie sorted by (res-8 cell, lead_id)
    lead_rank.npy          (n,) int32        order by lead_id alone, which breaks ties
    lead_features.npy      (n, L) float32    column-major
    lead_ingredients.npy   (n, I) float64    column-major; what crosses are made of
    <fact>.npy             (n,)              see LEAD_FACTS
    shown_cell.npy         (n,) int64       coarsened until enough leads share it; 0: withheld
    cells.npy, cell_start.npy                CSR: cell_start[i]:cell_start[i+1] are in cells[i]
    agent_id.npy           (m,) bytes        sorted
    agent_features.npy     (m, A) float32
    agent_ingredients.npy  (m, J) float64
    agent_tier.npy         (m,) int8         ordinal of domain.Tier
    territory.npy, territory_start.npy       CSR over agents: H3 res-8 cells
    pair_lead.npy, pair_start.npy            CSR over agents: leads that it has a history with
    pair_ingredients.npy   (p, P) float64    what that history is

Columns that a snapshot may lack; without them demand is the usual one, and it ranks by score
alone:

    demand.npy             (n,) float64      of the lead's area against the usual one
    twin.npy               (n,) int64        groups of near duplicates, see `diversity`
    slot_price_cents.npy   (n,) float64      what a place of a lead is worth, see `allocation`
    budget_price.npy       (m,) float64      what a cent of an agent's budget is worth
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import h3.api.basic_int as h3
import numpy as np
import structlog

from aiqleads.domain import Tier
from aiqleads.errors import NotReady, UnknownName
from aiqleads.recommend.allocation import SHARE, Chances
from aiqleads.settings import Settings

Array = np.ndarray[Any, Any]
CELL_RESOLUTION = 8
#: facts of a lead that filters, prices and cards need, with their types
LEAD_FACTS: dict[str, str] = {
    "intent": "int8",
    "property_type": "int16",
    "ask_price_cents": "int64",
    "shown_price_cents": "int64",
    "beds": "float32",
    "baths": "float32",
    "living_area_sqft": "float32",
    "year_built": "float32",
    "max_buyers": "int8",
    "quality": "float64",
    "received_market_us": "int64",
    "expires_market_us": "int64",
    "shown_cell": "int64",
}
_POINTER = "current"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Priced:
    """For which model a snapshot's prices of places were found, and how they are used.

    chances: of a purchase by that model's scores. usual_fee_cents, share: see
    `allocation.worth`.
    """

    model_version: str
    chances: Chances
    usual_fee_cents: float
    share: float = SHARE

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """Reads what `asdict` made of one."""
        return cls(**{**fields, "chances": Chances(**fields["chances"])})


@dataclass(frozen=True)
class Manifest:
    """What a snapshot is of.

    clock: 'frozen' serves at `as_of_market_us` for ever, 'wall' at the wall clock.
    The `*_features` and `*_ingredients` name the columns; `intents` and `property_types` are
    the words behind the codes; `notice` says what in it is invented. allocation: None where
    the snapshot carries no prices of places.
    """

    market: str
    title: str
    timezone: str
    currency: str
    clock: str
    as_of_market_us: int
    lead_features: tuple[str, ...]
    agent_features: tuple[str, ...]
    cross_features: tuple[str, ...]
    lead_ingredients: tuple[str, ...]
    agent_ingredients: tuple[str, ...]
    pair_ingredients: tuple[str, ...]
    intents: tuple[str, ...]
    property_types: tuple[str, ...]
    leads: int
    agents: int
    notice: str
    version: str = ""
    allocation: Priced | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of a model's input columns, in order."""
        return self.lead_features + self.agent_features + self.cross_features

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads what `to_json` wrote."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in json.loads(text).items()
        }
        priced = fields.get("allocation")
        fields["allocation"] = None if priced is None else Priced.from_fields(priced)
        return cls(**fields)

    def to_json(self) -> str:
        """The manifest as it stands on disk."""
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class AgentRow:
    """An agent as a snapshot knows it; `row` is its place in the agent columns."""

    agent_id: str
    row: int
    tier: Tier


@dataclass(frozen=True)
class Snapshot:
    """One published version, opened for reading; every column is memory-mapped."""

    manifest: Manifest
    columns: Mapping[str, Array]
    _by_id: Array = field(repr=False)
    _rings: dict[int, list[Array]] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, settings: Settings) -> Snapshot:
        """The version that `current` names; NotReady when nothing was published yet."""
        return cls.open(directory(settings) / current_version(settings))

    @classmethod
    def open(cls, path: Path) -> Snapshot:
        """The version in this directory; NotReady when it is not a whole snapshot."""
        try:
            manifest = Manifest.from_json((path / "manifest.json").read_text())
            columns = {
                file.stem: np.load(file, mmap_mode="r") for file in sorted(path.glob("*.npy"))
            }
            columns["lead_id"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise NotReady(f"the snapshot {path.name} cannot be read: publish it again") from error
        return cls.of(manifest, columns)

    @classmethod
    def of(cls, manifest: Manifest, columns: Mapping[str, Array]) -> Snapshot:
        """A snapshot of columns as they lie on disk."""
        return cls(manifest, columns, np.argsort(columns["lead_id"], kind="stable"))

    @property
    def version(self) -> str:
        """Name of this version."""
        return self.manifest.version

    @property
    def lead_rank(self) -> Array:
        """(n,) order of the leads by lead_id, which breaks ties."""
        return self.columns["lead_rank"]

    def market_now_us(self, wall_now_us: int) -> int:
        """Now on the market clock, which stands still in a sample market."""
        frozen = self.manifest.clock == "frozen"
        return self.manifest.as_of_market_us if frozen else wall_now_us

    def agent(self, agent_id: str) -> AgentRow:
        """The agent with this id; UnknownName when the snapshot has none."""
        ids = self.columns["agent_id"]
        row = int(np.searchsorted(ids, agent_id.encode()))
        if row == len(ids) or ids[row] != agent_id.encode():
            raise UnknownName(f"no agent '{agent_id}' in the market '{self.manifest.market}'")
        return AgentRow(agent_id, row, list(Tier)[int(self.columns["agent_tier"][row])])

    def lead_row(self, lead_id: str) -> int:
        """Place of a lead in the lead columns; UnknownName when it is not on offer."""
        ids = self.columns["lead_id"]
        at = int(np.searchsorted(ids, lead_id.encode(), sorter=self._by_id))
        if at == len(ids) or ids[self._by_id[at]] != lead_id.encode():
            raise UnknownName(f"no lead '{lead_id}' is on offer")
        return int(self._by_id[at])

    def lead_id(self, row: int) -> str:
        """Id of the lead in this place."""
        return bytes(self.columns["lead_id"][row]).decode()

    def rows_in(self, cells: Array) -> Array:
        """Places of the leads in these H3 res-8 cells (unique, any order), ascending."""
        known = self.columns["cells"]
        if not len(known):  # everything is withheld
            return np.empty(0, dtype=np.int64)
        at = np.minimum(np.searchsorted(known, cells), len(known) - 1)
        at = np.sort(at[known[at] == cells])
        start = self.columns["cell_start"]
        begin, count = start[at], start[at + 1] - start[at]
        # 0..count-1 within each cell, moved to where the cell begins
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.asarray(np.repeat(begin, count) + within, dtype=np.int64)

    def history(self, agent: AgentRow, rows: Array) -> dict[str, Array]:
        """Pair ingredients of an agent with these leads, (len(rows),) each; 0 where it has none."""
        start, stop = self.columns["pair_start"][agent.row : agent.row + 2]
        met = self.columns["pair_lead"][start:stop]
        names = self.manifest.pair_ingredients
        values = np.zeros((len(rows), len(names)), order="F")
        if len(met):
            at = np.minimum(np.searchsorted(met, rows), len(met) - 1)
            known = met[at] == rows
            values[known] = self.columns["pair_ingredients"][start + at[known]]
        return {name: values[:, j] for j, name in enumerate(names)}

    def ring(self, agent: AgentRow, distance: int) -> Array:
        """Cells at this grid distance around an agent's territory; 0 is the territory."""
        start = self.columns["territory_start"]
        rings = self._rings.setdefault(
            agent.row,
            [np.array(self.columns["territory"][start[agent.row] : start[agent.row + 1]])],
        )
        while len(rings) <= distance:
            seen = {int(cell) for ring in rings[-2:] for cell in ring}
            around = {near for cell in rings[-1] for near in h3.grid_disk(int(cell), 1)}
            rings.append(np.array(sorted(around - seen), dtype=np.int64))
        return rings[distance]


class Shelf:
    """The snapshot in force, followed as `current` moves; looks at most once per interval.

    A version that cannot be used (unreadable, or refused by `check`) is logged, and the
    one before stays in force.
    """

    def __init__(self, settings: Settings, check: Any = None, interval_us: int = 1_000_000) -> None:
        self._settings = settings
        self._check = check or (lambda _snapshot: None)
        self._interval_us = interval_us
        self._looked_us = 0
        self._refused = ""
        self._snapshot = Snapshot.load(settings)
        self._check(self._snapshot)

    def snapshot(self, now_us: int) -> Snapshot:
        """The snapshot in force at `now_us` (wall clock)."""
        if abs(now_us - self._looked_us) >= self._interval_us:  # clocks may be set back
            self._looked_us = now_us
            self._follow()
        return self._snapshot

    def _follow(self) -> None:
        version = self._snapshot.version
        try:
            version = current_version(self._settings)
            if version in (self._snapshot.version, self._refused):
                return
            fresh = Snapshot.load(self._settings)
            self._check(fresh)
        except NotReady as error:
            self._refused = version
            _log.warning("snapshot_refused", version=version, reason=error.detail)
            return
        _log.info("snapshot_swapped", before=self._snapshot.version, now=version)
        self._snapshot = fresh


def directory(settings: Settings) -> Path:
    """Where snapshots and the `current` pointer lie."""
    return settings.data / "snapshots"


def current_version(settings: Settings) -> str:
    """Name of the version in force; NotReady when nothing was published yet."""
    try:
        return (directory(settings) / _POINTER).read_text().strip()
    except OSError as error:
        raise NotReady(
            f"no snapshot is published under {directory(settings)}: run `aiqleads publish`"
        ) from error


#: prices of places for a snapshot that is about to be written, and their columns
Pricing = Callable[["Snapshot"], tuple[Priced, Mapping[str, Array]]]


def write(
    settings: Settings,
    manifest: Manifest,
    columns: Mapping[str, Array],
    pricing: Pricing | None = None,
) -> str:
    """Publishes columns as a new version and returns its name.

    The name is made from the content: the same content is the same version, and
    publishing it again only moves the pointer. A crash leaves the version before in force.
    pricing: called with the snapshot as it is going to stand, before it is written.
    """
    root = directory(settings)
    root.mkdir(parents=True, exist_ok=True)
    columns = _arranged(columns)
    if pricing is not None:
        priced, prices = pricing(Snapshot.of(manifest, columns))
        manifest, columns = replace(manifest, allocation=priced), {**columns, **prices}
    version = f"{manifest.market}-{_digest(manifest, columns)}"
    path = root / version
    if not (path / "manifest.json").is_file():
        _write_directory(path, manifest, version, columns)
    _replace(root / _POINTER, version.encode())
    return version


def prune(settings: Settings, keep: int = 3) -> list[str]:
    """Deletes all but the newest `keep` versions and the one in force; returns their names.

    Workers that still map a deleted version keep its pages until they let go of it.
    """
    in_force = current_version(settings)
    versions = [path for path in directory(settings).iterdir() if path.is_dir()]
    versions.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    gone = [path for path in versions[keep:] if path.name != in_force]
    for path in gone:
        shutil.rmtree(path)
    return [path.name for path in gone]


def _arranged(columns: Mapping[str, Array]) -> dict[str, Array]:
    """The columns with leads sorted by (cell, lead_id), agents by id, and the CSR indexes.

    Takes besides the columns on disk: `cell` (n,) H3 res-8, `territories` (m,) an object
    array of cell lists, and `pair_agent_id`, `pair_lead_id` (p,) of `pair_ingredients`.
    `twin` may be left out.
    """
    leads = np.lexsort((columns["lead_id"], columns["cell"]))
    agents = np.argsort(columns["agent_id"])
    out: dict[str, Array] = {}
    for name, kind in LEAD_FACTS.items():
        out[name] = np.ascontiguousarray(columns[name][leads], dtype=kind)
    if "demand" in columns:
        out["demand"] = np.asarray(columns["demand"][leads], dtype=np.float64)
    if "twin" in columns:
        out["twin"] = np.asarray(columns["twin"][leads], dtype=np.int64)
    out["lead_id"] = columns["lead_id"][leads]
    out["lead_features"] = np.asfortranarray(columns["lead_features"][leads], dtype=np.float32)
    out["lead_ingredients"] = np.asfortranarray(columns["lead_ingredients"][leads], dtype=float)
    rank = np.empty(len(leads), dtype=np.int32)
    rank[np.argsort(out["lead_id"], kind="stable")] = np.arange(len(leads), dtype=np.int32)
    out["lead_rank"] = rank
    cells, first = np.unique(columns["cell"][leads].astype(np.int64), return_index=True)
    out["cells"] = cells
    out["cell_start"] = np.append(first, len(leads)).astype(np.int64)
    out["agent_id"] = columns["agent_id"][agents]
    out["agent_tier"] = columns["agent_tier"][agents].astype(np.int8)
    out["agent_features"] = columns["agent_features"][agents].astype(np.float32)
    out["agent_ingredients"] = columns["agent_ingredients"][agents].astype(float)
    territories = [np.unique(np.asarray(columns["territories"][i], np.int64)) for i in agents]
    out["territory"] = np.concatenate([np.empty(0, np.int64), *territories])
    out["territory_start"] = np.cumsum([0, *map(len, territories)], dtype=np.int64)
    return out | _pairs(columns, out["lead_id"], out["agent_id"])


def _pairs(columns: Mapping[str, Array], lead_id: Array, agent_id: Array) -> dict[str, Array]:
    """CSR over agents of the pairs with a history, leads ascending within an agent."""
    by_id = np.argsort(lead_id, kind="stable")
    lead = by_id[np.searchsorted(lead_id, columns["pair_lead_id"], sorter=by_id)]
    agent = np.searchsorted(agent_id, columns["pair_agent_id"])
    order = np.lexsort((lead, agent))
    return {
        "pair_lead": lead[order].astype(np.int64),
        "pair_ingredients": columns["pair_ingredients"][order].astype(float),
        "pair_start": np.searchsorted(agent[order], np.arange(len(agent_id) + 1)).astype(np.int64),
    }


def _digest(manifest: Manifest, columns: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(manifest.to_json().encode())
    for name in sorted(columns):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(columns[name]).data)
    return digest.hexdigest()[:16]


def _write_directory(
    path: Path, manifest: Manifest, version: str, columns: Mapping[str, Array]
) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for name, values in columns.items():
        with (partial / f"{name}.npy").open("wb") as file:
            np.save(file, values)
            file.flush()
            _sync(file.fileno())
    with (partial / "manifest.json").open("w") as text:
        text.write(replace(manifest, version=version).to_json())
        text.flush()
        _sync(text.fileno())
    _sync_directory(partial)
    shutil.rmtree(path, ignore_errors=True)  # what a crash left without its manifest
    partial.rename(path)
    _sync_directory(path.parent)


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        _sync(file.fileno())
    partial.replace(path)
    _sync_directory(path.parent)


def _sync(descriptor: int) -> None:
    os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
