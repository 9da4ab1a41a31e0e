"""Windows of the feature frame as arrays that rankers train on and are measured on.

The truth of the simulated market (`Truth`) is read by a function of its own: training
never calls it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import ContractBroken, InvalidInput, NotReady
from aiqleads.features.build import LABEL_DAYS
from aiqleads.ingest.market import Market
from aiqleads.settings import Settings

Window = Literal["train", "validate", "test"]
WINDOWS: tuple[Window, ...] = ("train", "validate", "test")

#: what an outcome is worth, by label: nothing, view, hold, purchase (2 ** label - 1, the
#: usual gain of graded relevance); rankers are trained towards it
GAINS = np.array([0.0, 1.0, 3.0, 7.0])
#: name of an oracle -> its column in the simulated market's truth: one knows all that
#: decides but the coins, the other every taste but nothing hidden
ORACLES = {"full oracle": "score_full", "taste oracle": "score_known"}

_KEYS = ("request_id", "agent_id", "lead_id", "position", "at_market_us", "label", "price_cents")
#: how a ranking was shown; no feature, since a score must not depend on it
_SHELF = ("device", "surface")


@dataclass(frozen=True)
class Dataset:
    """Requests of one window, rows of a request together.

    X: (n, F) float32, Fortran order, columns `features`. label: (n,) int8, 0 none, 1 view,
    2 hold, 3 purchase, as observed. lead_id, position, price_cents: (n,). sizes: (G,) rows
    per request. request_id, agent_id, at_market_us: (G,). shelf: (G,) device and surface on
    which a request was shown, "desktop/list", or "" where the log does not tell. digest: of
    all of these.
    """

    name: str
    features: tuple[str, ...]
    X: NDArray[np.float32]
    label: NDArray[np.int8]
    lead_id: NDArray[np.object_]
    position: NDArray[np.int32]
    price_cents: NDArray[np.int64]
    sizes: NDArray[np.int64]
    request_id: NDArray[np.object_]
    agent_id: NDArray[np.object_]
    at_market_us: NDArray[np.int64]
    shelf: NDArray[np.object_]
    digest: str
    source: str

    def __len__(self) -> int:
        """Rows."""
        return len(self.label)

    @property
    def gain(self) -> NDArray[np.float64]:
        """What each row is worth to training, (n,)."""
        return GAINS[self.label]

    @property
    def group(self) -> NDArray[np.int64]:
        """Number of each row's request, (n,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    def column(self, feature: str) -> NDArray[np.float32]:
        """One feature, (n,); raises InvalidInput for a name that the frame does not have."""
        return self.columns((feature,))[:, 0]

    def columns(self, features: Sequence[str]) -> NDArray[np.float32]:
        """Some features in the order given, (n, len(features)), Fortran order."""
        missing = [name for name in features if name not in self.features]
        if missing:
            raise InvalidInput(f"the feature frame has no {', '.join(missing)}")
        if tuple(features) == self.features:
            return self.X
        return np.asfortranarray(self.X[:, [self.features.index(name) for name in features]])

    def where(self, kept: NDArray[np.bool_]) -> Dataset:
        """The requests that `kept` (G,) marks."""
        rows = np.repeat(kept, self.sizes)
        return _dataset(
            self.name,
            self.features,
            np.asfortranarray(self.X[rows]),
            self.source,
            label=self.label[rows],
            lead_id=self.lead_id[rows],
            position=self.position[rows],
            price_cents=self.price_cents[rows],
            sizes=self.sizes[kept],
            request_id=self.request_id[kept],
            agent_id=self.agent_id[kept],
            at_market_us=self.at_market_us[kept],
            shelf=self.shelf[kept],
        )

    def answered(self) -> Dataset:
        """The requests in which the agent did something; the others say nothing of order."""
        return self.where(np.add.reduceat(self.label > 0, self._starts) > 0)

    @property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum(self.sizes) - self.sizes


@dataclass(frozen=True)
class Truth:
    """What a window's rows are really worth, by row of its dataset, all (n,).

    source: "oracle" (the simulated market's own truth) or "observed" (labels as logged,
    which lean to what the policy in force showed first). relevance: what the row is worth,
    not negative. hit: would be bought. revenue_usd: expected fee of purchases that are kept,
    were the row looked at. oracles: scores by name of who knows more than any feature tells;
    empty where the market is not simulated.
    """

    source: Literal["oracle", "observed"]
    relevance: NDArray[np.float64]
    hit: NDArray[np.bool_]
    revenue_usd: NDArray[np.float64]
    oracles: dict[str, NDArray[np.float64]]


def split_by_time(market: Market) -> dict[Window, tuple[int, int]]:
    """Half-open windows [from, until) of request times in market microseconds.

    train ends with the local day `split.train_until`, validate with `split.validate_until`,
    test is what follows. Train and validate stop `LABEL_DAYS` short of their end: a later
    request's label is not complete when the window closes. Raises InvalidInput for a market
    without a split.
    """
    if market.split is None:
        raise InvalidInput(f"market {market.name} has no [split]: it cannot be trained on")
    day = timedelta(days=1)
    train_end = market.midnight_us(market.split.train_until + day)
    validate_end = market.midnight_us(market.split.validate_until + day)
    open_labels = LABEL_DAYS * US_PER_DAY
    return {
        "train": (np.iinfo(np.int64).min, train_end - open_labels),
        "validate": (train_end, validate_end - open_labels),
        "test": (validate_end, np.iinfo(np.int64).max),
    }


def features_path(settings: Settings, market_name: str) -> Path:
    """Where the feature frame of a market lies."""
    return settings.data / "features" / market_name / "features.parquet"


def load_dataset(settings: Settings, market: Market, window: Window) -> Dataset:
    """A window of the market's feature frame.

    Raises NotReady without a frame or without requests in the window, ContractBroken when
    columns are missing or a request's rows disagree on its time.
    """
    path = features_path(settings, market.name)
    if not path.is_file():
        raise NotReady(f"{path} does not exist yet: aiqleads run build_features")
    since, until = split_by_time(market)[window]
    names = pq.read_schema(path).names
    if missing := [name for name in _KEYS if name not in names]:
        raise ContractBroken(f"{path} has no {', '.join(missing)}")
    frame = pq.read_table(
        path, filters=[("at_market_us", ">=", since), ("at_market_us", "<", until)]
    ).to_pandas()
    if frame.empty:
        raise NotReady(f"no request of market {market.name} lies in its {window} window")
    frame = _with_shelf(frame, settings, market)
    return dataset_of(frame, window, source=str(path.relative_to(settings.home)))


def _with_shelf(frame: pd.DataFrame, settings: Settings, market: Market) -> pd.DataFrame:
    """The frame with the columns of `_SHELF` that the log of rankings has."""
    path = settings.data / "core" / market.name / "events" / "rankings.parquet"
    if not path.is_file():
        return frame
    told = [name for name in _SHELF if name in pq.read_schema(path).names]
    shown = pq.read_table(path, columns=["request_id", *told]).to_pandas()
    shown = shown.drop_duplicates("request_id").set_index("request_id")
    return frame.assign(**{name: frame["request_id"].map(shown[name]) for name in told})


def dataset_of(frame: pd.DataFrame, name: str, source: str = "") -> Dataset:
    """A dataset from rows of the feature frame's schema, sorted by time, request and position.

    Every column beyond the keys is a feature, in the frame's order, but for `device` and
    `surface`, which say how the request was shown and may be missing.
    """
    features = tuple(column for column in frame.columns if column not in _KEYS + _SHELF)
    frame = frame.sort_values(["at_market_us", "request_id", "position"], kind="stable")
    request = frame["request_id"].to_numpy(dtype=object)
    first = np.flatnonzero(np.r_[True, request[1:] != request[:-1]])
    sizes = np.diff(np.r_[first, len(frame)]).astype(np.int64)
    at = frame["at_market_us"].to_numpy(dtype=np.int64)
    if len(first) != frame["request_id"].nunique() or np.any(at != np.repeat(at[first], sizes)):
        raise ContractBroken("rows of one request disagree on its time")
    X = np.empty((len(frame), len(features)), dtype=np.float32, order="F")
    for column, feature in enumerate(features):
        X[:, column] = frame[feature].to_numpy(dtype=np.float32)
    return _dataset(
        name,
        features,
        X,
        source,
        label=frame["label"].to_numpy(dtype=np.int8),
        lead_id=frame["lead_id"].to_numpy(dtype=object),
        position=frame["position"].to_numpy(dtype=np.int32),
        price_cents=frame["price_cents"].to_numpy(dtype=np.int64),
        sizes=sizes,
        request_id=request[first],
        agent_id=frame["agent_id"].to_numpy(dtype=object)[first],
        at_market_us=at[first],
        shelf=_shelf(frame.iloc[first]),
    )


def _shelf(requests: pd.DataFrame) -> NDArray[np.object_]:
    """Device and surface of each request, (G,)."""
    told = [requests[name].fillna("").astype(str) for name in _SHELF if name in requests]
    shelf = (
        [""] * len(requests) if not told else ["/".join(each) for each in zip(*told, strict=True)]
    )
    return np.array(shelf, dtype=np.object_)


def load_truth(settings: Settings, market: Market, dataset: Dataset) -> Truth:
    """The truth about a window: the oracle's where the market is simulated, else the labels.

    Raises ContractBroken when the oracle does not know a row that was shown.
    """
    path = settings.data / "core" / market.name / "events" / "oracle.parquet"
    if not path.is_file():
        return observed_truth(dataset)
    shown = pd.DataFrame(
        {
            "request_id": np.repeat(dataset.request_id, dataset.sizes),
            "lead_id": dataset.lead_id,
        }
    )
    known = pq.read_table(
        path, filters=[("request_id", "in", dataset.request_id.tolist())]
    ).to_pandas()
    rows = shown.merge(known, how="left", on=["request_id", "lead_id"], validate="1:1")
    if unknown := int(rows["relevance"].isna().sum()):
        raise ContractBroken(f"{path} does not know {unknown} of {len(rows)} rows that were shown")
    kept = rows["p_purchase"] * (1.0 - rows["p_return"])
    return Truth(
        source="oracle",
        relevance=rows["relevance"].to_numpy(dtype=np.float64),
        hit=rows["would_purchase"].to_numpy(dtype=bool),
        revenue_usd=kept.to_numpy(dtype=np.float64) * dataset.price_cents / 100,
        oracles={name: rows[column].to_numpy(dtype=np.float64) for name, column in ORACLES.items()},
    )


def without_bots(settings: Settings, market: Market, dataset: Dataset) -> Dataset:
    """The requests of agents who are no bots, for measuring: a bot's have no relevance.

    Only a simulated market knows who is one (`events/agents_truth.parquet`); elsewhere it is
    the dataset itself. Nothing that trains may call this.
    """
    path = settings.data / "core" / market.name / "events" / "agents_truth.parquet"
    if not path.is_file():
        return dataset
    known = pq.read_table(path, columns=["agent_id", "bot"]).to_pandas()
    bots = set(known.loc[known["bot"], "agent_id"])
    human = np.array([agent not in bots for agent in dataset.agent_id], dtype=np.bool_)
    return dataset if human.all() else dataset.where(human)


def observed_truth(dataset: Dataset) -> Truth:
    """Labels as they were logged: a purchase is a hit and brings its fee."""
    bought = dataset.label == 3
    return Truth(
        source="observed",
        relevance=dataset.gain,
        hit=bought,
        revenue_usd=bought * dataset.price_cents / 100,
        oracles={},
    )


def tiers(settings: Settings, market: Market, dataset: Dataset) -> NDArray[np.object_]:
    """Tier of each request's agent, (G,); "unknown" where the agents' frame does not say."""
    path = settings.data / "core" / market.name / "agents.parquet"
    if not path.is_file():
        return np.full(len(dataset.sizes), "unknown", dtype=object)
    agents = pq.read_table(path, columns=["agent_id", "tier"]).to_pandas()
    tier = pd.Series(dataset.agent_id).map(agents.set_index("agent_id")["tier"])
    return tier.fillna("unknown").to_numpy(dtype=object)


def _dataset(
    name: str, features: tuple[str, ...], X: NDArray[np.float32], source: str, **arrays: Any
) -> Dataset:
    digest = hashlib.sha256("\n".join(features).encode())
    digest.update(np.ascontiguousarray(X.T).data)
    for key, values in arrays.items():
        digest.update(key.encode())
        text = values.dtype == object
        digest.update("\n".join(values).encode() if text else np.ascontiguousarray(values).data)
    return Dataset(
        name=name, features=features, X=X, source=source, digest=digest.hexdigest()[:16], **arrays
    )
