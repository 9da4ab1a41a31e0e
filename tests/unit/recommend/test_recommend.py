from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aiqleads.domain import ENTITLEMENTS, Intent, Tier
from aiqleads.errors import InvalidInput, NotReady, UnknownName
from aiqleads.features.catalog import AGENT_FEATURES, CROSS_FEATURES, LEAD_FEATURES
from aiqleads.features.crosses import cross_matrix
from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend.candidates import Filters
from aiqleads.recommend.cards import PRICE_STEP_CENTS, card, shown_price
from aiqleads.recommend.recommend import (
    Recommendation,
    check_features,
    feature_matrix,
    recommend,
)
from aiqleads.recommend.snapshot import Snapshot
from aiqleads.settings import Settings

MINUTE_US = 60_000_000


@pytest.fixture
def snapshot(served: Settings) -> Snapshot:
    return Snapshot.load(served)


@pytest.fixture
def scorer(served: Settings) -> Scorer:
    return Scorer.load(served.home / "scorer")


def everything(_lead_ids: Sequence[str]) -> set[str]:
    return set()


def ranking(
    snapshot: Snapshot,
    scorer: Scorer,
    agent_id: str = "A0003",
    k: int = 10,
    filters: Filters | None = None,
    availability: Any = everything,
) -> Recommendation:
    now = snapshot.manifest.as_of_market_us
    return recommend(snapshot, scorer, availability, agent_id, k, filters or Filters(), now)


def test_the_best_k_come_best_first(snapshot: Snapshot, scorer: Scorer) -> None:
    found = ranking(snapshot, scorer, k=20)
    scores = [item.score for item in found.items]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    assert [item.position for item in found.items] == list(range(1, 21))
    assert len({item.lead_id for item in found.items}) == 20
    assert found.candidates >= 20


def test_scores_are_the_models_own_on_the_same_rows(snapshot: Snapshot, scorer: Scorer) -> None:
    found = ranking(snapshot, scorer, k=50)
    rows = np.array([item.row for item in found.items])
    X = feature_matrix(snapshot, found.agent, rows)
    assert X.flags.f_contiguous
    assert X.dtype == np.float32
    assert scorer.score(X).tolist() == [item.score for item in found.items]
    n, m = len(LEAD_FEATURES), len(AGENT_FEATURES)
    np.testing.assert_array_equal(X[:, :n], snapshot.columns["lead_features"][rows])
    own = snapshot.columns["agent_features"][found.agent.row]
    np.testing.assert_array_equal(X[:, n : n + m], np.tile(own, (len(rows), 1)))
    assert X.shape[1] == n + m + len(CROSS_FEATURES)


def test_history_reaches_the_crosses(snapshot: Snapshot) -> None:
    agent = snapshot.agent("A0002")
    start = snapshot.columns["pair_start"][agent.row]
    met = int(snapshot.columns["pair_lead"][start])
    other = (met + 1) % snapshot.manifest.leads
    X = feature_matrix(snapshot, agent, np.array([met, other]))
    shown = snapshot.manifest.features.index("shown_to_you")
    assert X[:, shown].tolist() == [9, 0]
    manifest = snapshot.manifest
    values = snapshot.columns["agent_ingredients"][agent.row]
    lead = {
        name: snapshot.columns["lead_ingredients"][[other], j]
        for j, name in enumerate(manifest.lead_ingredients)
    }
    own = dict(zip(manifest.agent_ingredients, values.tolist(), strict=True))
    np.testing.assert_array_equal(X[1:, -len(CROSS_FEATURES) :], cross_matrix(own, lead))


def test_what_is_gone_makes_room_for_the_next_best(snapshot: Snapshot, scorer: Scorer) -> None:
    plain = ranking(snapshot, scorer, k=10)
    gone = {plain.items[0].lead_id, plain.items[3].lead_id}
    asked: list[str] = []

    def availability(lead_ids: Sequence[str]) -> set[str]:
        asked.extend(lead_ids)
        return gone.intersection(lead_ids)

    found = ranking(snapshot, scorer, k=10, availability=availability)
    kept = [item.lead_id for item in plain.items if item.lead_id not in gone]
    assert [item.lead_id for item in found.items][: len(kept)] == kept
    assert len(found.items) == 10
    assert set(found.withheld) == gone
    assert len(asked) == len(set(asked)) <= 20


def test_all_gone_is_an_empty_page(snapshot: Snapshot, scorer: Scorer) -> None:
    found = ranking(snapshot, scorer, availability=lambda ids: set(ids))
    assert found.items == ()
    assert len(found.withheld) == found.candidates > 0


def test_equal_scores_are_ordered_by_lead_id(
    snapshot: Snapshot, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scorer, "score", lambda X: np.zeros(len(X)))
    ids = [item.lead_id for item in ranking(snapshot, scorer, k=30).items]
    assert ids == sorted(ids)


def test_each_item_has_three_different_reasons_about_the_lead(
    snapshot: Snapshot, scorer: Scorer
) -> None:
    for item in ranking(snapshot, scorer).items:
        assert len(item.reasons) == len({reason.text for reason in item.reasons}) == 3
        for reason in item.reasons:
            assert reason.text
            assert reason.feature not in AGENT_FEATURES
            assert (reason.direction == "up") == (reason.contribution > 0)
        ups = [reason.direction == "up" for reason in item.reasons]
        assert ups == sorted(ups, reverse=True), "what speaks for a lead comes first"


def test_filters_hold_on_what_is_shown(snapshot: Snapshot, scorer: Scorer) -> None:
    wanted = Filters(
        intent=Intent.SELL,
        property_types=frozenset({"house"}),
        min_price_cents=10_000_000,
        max_price_cents=15_000_000,
        min_beds=3,
    )
    items = ranking(snapshot, scorer, k=30, filters=wanted).items
    assert items
    for item in items:
        shown = card(snapshot, item.row)
        assert shown.intent == "sell"
        assert shown.property_type == "house"
        assert 10_000_000 <= shown.ask_price_about_cents <= 15_000_000
        assert shown.beds is not None
        assert shown.beds >= 3
    with pytest.raises(InvalidInput, match=r"castle.*condo, house"):
        ranking(snapshot, scorer, filters=replace(wanted, property_types=frozenset({"castle"})))


@pytest.mark.parametrize(
    ("agent_id", "tier"), [("A0001", "basic"), ("A0002", "pro"), ("A0003", "enterprise")]
)
def test_a_tier_sees_new_leads_after_its_delay(
    snapshot: Snapshot, scorer: Scorer, agent_id: str, tier: str
) -> None:
    found = ranking(snapshot, scorer, agent_id, k=100)
    assert found.agent.tier == tier
    received = snapshot.columns["received_market_us"][[item.row for item in found.items]]
    age = (snapshot.manifest.as_of_market_us - received).min() / MINUTE_US
    assert age >= ENTITLEMENTS[Tier(tier)].new_lead_delay_minutes
    assert (age < 60) == (tier != "basic"), "the sample has leads of 20 minutes"


def test_no_lead_is_shown_when_it_has_expired(snapshot: Snapshot, scorer: Scorer) -> None:
    late = int(snapshot.columns["expires_market_us"].max())
    assert not recommend(snapshot, scorer, everything, "A0003", 5, Filters(), late).items
    first = int(snapshot.columns["expires_market_us"].min())
    rows = [
        i.row for i in recommend(snapshot, scorer, everything, "A0003", 100, Filters(), first).items
    ]
    assert (snapshot.columns["expires_market_us"][rows] > first).all()


def test_the_search_grows_until_there_is_enough_to_choose_from(
    snapshot: Snapshot, scorer: Scorer
) -> None:
    few, many = ranking(snapshot, scorer, "A0001", k=1), ranking(snapshot, scorer, "A0001", k=100)
    assert few.rings < many.rings
    assert few.candidates < many.candidates


def test_a_stranger_is_an_unknown_name(snapshot: Snapshot, scorer: Scorer) -> None:
    with pytest.raises(UnknownName, match="A9999"):
        ranking(snapshot, scorer, "A9999")


def test_a_model_of_other_columns_is_refused(
    snapshot: Snapshot, scorer: Scorer, serving_world: dict[str, Any]
) -> None:
    check_features(scorer, snapshot)
    other = replace(snapshot.manifest, cross_features=CROSS_FEATURES[:-1])
    with pytest.raises(NotReady, match=CROSS_FEATURES[-1]):
        check_features(scorer, replace(snapshot, manifest=other))


def test_a_model_of_fewer_columns_in_another_order_reads_its_own(
    snapshot: Snapshot, scorer: Scorer
) -> None:
    whole = feature_matrix(snapshot, snapshot.agent("A0002"), np.arange(3))
    wanted = (CROSS_FEATURES[-1], *LEAD_FEATURES[:2])
    picked = feature_matrix(snapshot, snapshot.agent("A0002"), np.arange(3), wanted)
    places = [snapshot.manifest.features.index(name) for name in wanted]
    np.testing.assert_array_equal(picked, whole[:, places])
    assert picked.flags.f_contiguous


def test_a_card_gives_rounded_facts_and_a_shared_cell(snapshot: Snapshot) -> None:
    cells: dict[str, int] = {}
    for row in range(snapshot.manifest.leads):
        shown = card(snapshot, row)
        assert shown.ask_price_about_cents % PRICE_STEP_CENTS == 0
        assert shown.living_area_about_sqft is not None
        assert shown.living_area_about_sqft % 100 == 0
        assert shown.built_about is not None
        assert shown.built_about % 10 == 0
        assert shown.received.endswith(":00:00Z")
        assert shown.available_until.endswith(":00:00Z")
        if shown.cell is not None:
            cells[shown.cell] = cells.get(shown.cell, 0) + 1
    assert min(cells.values()) >= 5
    assert any(card(snapshot, row).cell is None for row in range(snapshot.manifest.leads))
    assert any(card(snapshot, row).beds is None for row in range(snapshot.manifest.leads))


def test_a_shown_price_is_the_nearest_step_and_never_zero() -> None:
    prices = np.array([1, 499_999, 1_499_999, 1_500_000, 17_634_682])
    assert shown_price(prices).tolist() == [1_000_000, 1_000_000, 1_000_000, 2_000_000, 18_000_000]
