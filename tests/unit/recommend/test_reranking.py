"""A page that prices of places, near duplicates or a draw have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend.allocation import Chances
from aiqleads.recommend.candidates import Filters
from aiqleads.recommend.explore import Exploration
from aiqleads.recommend.reasons import FEW_ARE_OFFERED
from aiqleads.recommend.recommend import Recommendation, recommend
from aiqleads.recommend.snapshot import Manifest, Priced, Snapshot
from aiqleads.settings import Settings

AGENT = "A0003"


@pytest.fixture
def plain(served: Settings) -> Snapshot:
    return Snapshot.load(served)


@pytest.fixture
def scorer(served: Settings) -> Scorer:
    return Scorer.load(served.home / "scorer")


def everything(_lead_ids: Sequence[str]) -> set[str]:
    return set()


def even_fees(rows: np.ndarray) -> np.ndarray:
    return np.full(len(rows), 4_000)


def ranking(snapshot: Snapshot, scorer: Scorer, k: int = 10, **more: Any) -> Recommendation:
    now = snapshot.manifest.as_of_market_us
    return recommend(
        snapshot, scorer, more.pop("availability", everything), AGENT, k, Filters(), now, **more
    )


def ids(found: Recommendation) -> list[str]:
    return [item.lead_id for item in found.items]


def priced(snapshot: Snapshot, version: str, slot: np.ndarray, share: float = 0.8) -> Snapshot:
    """The snapshot with these prices of places, found for this model."""
    about = Priced(version, Chances(-3.0, 1.0, 0.5), 4_000.0, share)
    columns = {
        **snapshot.columns,
        "slot_price_cents": slot,
        "budget_price": np.zeros(snapshot.manifest.agents),
    }
    return replace(snapshot, manifest=replace(snapshot.manifest, allocation=about), columns=columns)


def test_without_prices_or_without_fees_the_scores_decide(plain: Snapshot, scorer: Scorer) -> None:
    wanted = ids(ranking(plain, scorer))
    slot = np.linspace(0, 8_000, plain.manifest.leads)
    offered = priced(plain, scorer.version, slot)
    assert ids(ranking(plain, scorer, fees=even_fees)) == wanted
    assert ids(ranking(offered, scorer)) == wanted
    other = priced(plain, "another model", slot)
    assert ids(ranking(other, scorer, fees=even_fees)) == wanted
    nothing = priced(plain, scorer.version, np.zeros(plain.manifest.leads))
    found = ranking(nothing, scorer, fees=even_fees)
    assert ids(found) == wanted
    assert all(item.placed is None and item.propensity == 1.0 for item in found.items)


def test_a_lead_that_others_want_makes_way_and_who_moves_up_says_why(
    plain: Snapshot, scorer: Scorer
) -> None:
    wanted = ranking(plain, scorer)
    slot = np.zeros(plain.manifest.leads)
    slot[wanted.items[0].row] = 4_000.0
    found = ranking(priced(plain, scorer.version, slot), scorer, fees=even_fees)
    assert ids(found)[0] == wanted.items[1].lead_id
    first = found.items[0]
    assert first.placed == FEW_ARE_OFFERED
    assert "few agents are offered this lead" in first.placed.text
    assert len(first.reasons) == 3, "what adds up to the score stays as it was"
    assert first.reasons == wanted.items[1].reasons
    assert first.score == wanted.items[1].score
    for item in found.items:
        assert item.placed is None or item.lead_id != wanted.items[0].lead_id


def test_the_share_says_how_much_the_money_moves(plain: Snapshot, scorer: Scorer) -> None:
    rng = np.random.default_rng(0)
    fee = rng.integers(1_000, 9_000, plain.manifest.leads)
    slot = np.zeros(plain.manifest.leads)
    wanted = ids(ranking(plain, scorer, k=300))
    place = {lead_id: n for n, lead_id in enumerate(wanted)}
    moves = []
    for share in (0.0, 0.3, 1.0):
        found = ranking(
            priced(plain, scorer.version, slot, share), scorer, k=300, fees=lambda rows: fee[rows]
        )
        assert sorted(ids(found)) == sorted(wanted)
        moves.append(sum(abs(place[lead_id] - n) for n, lead_id in enumerate(ids(found))))
    assert moves[0] == 0 < moves[1] < moves[2]


@pytest.mark.parametrize("drawn", [False, True])
def test_no_two_near_duplicates_in_the_top_ten_while_there_are_others(
    plain: Snapshot, scorer: Scorer, drawn: bool
) -> None:
    best = [item.row for item in ranking(plain, scorer, k=12).items]
    twin = np.full(plain.manifest.leads, -1, dtype=np.int64)
    twin[best[:4]], twin[best[4:6]] = 7, 9
    apart = replace(plain, columns={**plain.columns, "twin": twin})
    for seed in range(5):
        rng = np.random.default_rng(seed)
        draw = Exploration(0.05, lambda rows, rng=rng: rng.gumbel(size=len(rows)))
        found = ranking(apart, scorer, k=20, exploration=draw if drawn else None)
        rows = [item.row for item in found.items]
        assert len(rows) == 20
        groups = [int(twin[row]) for row in rows[:10] if twin[row] >= 0]
        assert len(groups) == len(set(groups))
        if not drawn:
            assert [best[0], best[4]] == [row for row in rows if twin[row] >= 0][:2]
    few = set(best[:4])
    gone = {plain.lead_id(row) for row in range(plain.manifest.leads) if row not in few}
    left = ranking(apart, scorer, availability=lambda names: gone.intersection(names))
    assert {item.row for item in left.items} == few, "better a near duplicate than an empty place"


def test_a_draw_logs_its_chances_and_asks_about_all(plain: Snapshot, scorer: Scorer) -> None:
    asked: list[str] = []

    def availability(names: Sequence[str]) -> set[str]:
        asked.extend(names)
        return {names[0]}

    rng = np.random.default_rng(3)
    draw = Exploration(5.0, lambda rows: rng.gumbel(size=len(rows)))
    found = ranking(plain, scorer, exploration=draw, availability=availability)
    assert len(asked) == found.candidates
    assert asked[0] not in ids(found)
    assert all(0 < item.propensity < 1 for item in found.items)
    assert ids(found) != ids(ranking(plain, scorer))


def test_a_manifest_with_prices_comes_back_as_it_was(plain: Snapshot) -> None:
    about = replace(plain.manifest, allocation=Priced("abc", Chances(-3.0, 1.0, 0.5), 4_000.0))
    assert Manifest.from_json(about.to_json()) == about
    assert Manifest.from_json(plain.manifest.to_json()).allocation is None
