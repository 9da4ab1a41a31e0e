"""The comparison's page and what stands behind it: slices, reliability, misses, exposure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aiqleads.features.catalog import FEATURES
from aiqleads.ingest.market import Market
from aiqleads.ranking import slices
from aiqleads.ranking.compare import Comparison, Slice, compare, judge
from aiqleads.ranking.dataset import Dataset, Truth, dataset_of, observed_truth
from aiqleads.ranking.evaluate import Interval, ranks
from aiqleads.ranking.evidence import Decile, Evidence, bought_within, calibration, gather, told
from aiqleads.ranking.importance import importance_shift, importances
from aiqleads.ranking.page import _decile_charts, page, page_path, write_page
from aiqleads.ranking.registry import Registered, Training
from aiqleads.ranking.tables import group_shares, rankers_table, versions_table, windows_table
from aiqleads.ranking.train import Trained
from aiqleads.settings import Settings

NOW = datetime(2001, 2, 3, 4, 5, tzinfo=UTC)
BAIT = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def held_out(frames: tuple[pd.DataFrame, pd.DataFrame]) -> tuple[Dataset, Truth]:
    frame, oracle = frames
    at = np.sort(frame["at_market_us"].unique())
    kept = frame["at_market_us"] >= at[2 * len(at) // 3]
    rows, test = oracle[kept], dataset_of(frame[kept], "test")
    return test, Truth(
        source="oracle",
        relevance=rows["relevance"].to_numpy(),
        hit=rows["would_purchase"].to_numpy(),
        revenue_usd=rows["p_purchase"].to_numpy() * test.price_cents / 100,
        oracles={"full oracle": rows["score_full"].to_numpy()},
    )


@pytest.fixture(scope="module")
def area(held_out: tuple[Dataset, Truth]) -> np.ndarray[Any, Any]:
    """Every tenth row lies in a small area, the others in two large ones."""
    number = np.arange(len(held_out[0]))
    return np.where(number % 10 == 0, BAIT, np.where(number % 2, "east", "west")).astype(object)


@pytest.fixture(scope="module")
def evidence(
    held_out: tuple[Dataset, Truth], trained: Trained, area: np.ndarray[Any, Any]
) -> Evidence:
    test, truth = held_out
    table = importances(trained.scorer, test.X, {each.name: each.group for each in FEATURES})
    older = table.assign(share=table["share"][::-1].to_numpy())
    return gather(
        trained.scorer,
        test,
        truth,
        area,
        importance_shift(older, table),
        "against the run before",
        currency="USD",
    )


@pytest.fixture(scope="module")
def compared(held_out: tuple[Dataset, Truth], trained: Trained) -> Comparison:
    test, truth = held_out
    tier = np.where(np.arange(len(test.sizes)) % 2, "pro", BAIT).astype(object)
    models = {"QueryRMSE": trained.scorer}
    return compare(
        test, truth, models, "QueryRMSE", market="lucas", slices={"tier": tier}, resamples=200
    )


def drawn(comparison: Comparison, evidence: Evidence) -> str:
    return page(comparison, slices.gate(comparison), evidence, NOW)


class Checker(HTMLParser):
    """Every tag is closed, and nothing is fetched or run."""

    VOID = frozenset({"meta", "link", "br", "rect", "line"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag not in {"script", "iframe", "img", "object"}
        assert not [name for name in given if name.startswith("on") or name == "src"]
        assert given.get("href", "data:,") == "data:,"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def read(html: str) -> str:
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    return re.sub(r"\s+", " ", " ".join(checker.words))


def test_the_page_is_whole_offline_and_says_what_decided(
    compared: Comparison, evidence: Evidence, home: Settings
) -> None:
    verdict = slices.gate(compared)
    path = write_page(home, compared, verdict, evidence, NOW)
    assert path == page_path(home, "lucas")
    html = path.read_text(encoding="utf-8")
    assert "http" not in html.replace("http-equiv", "")
    text = read(html)
    for words in (
        "The gate opens",
        verdict.reason,
        "Simulated.",
        "popular lately",
        "full oracle",
        "Benjamini-Hochberg",
        "True relevance",
        "against the run before",
        "Where it was most wrong",
        "Who is seen",
        "2001-02-03 04:05 UTC",
    ):
        assert words in text, words
    mean = compared.row("QueryRMSE").metrics["ndcg10"].mean
    assert f"{mean:.4f}" in text
    assert len(html) < 200_000


def test_whatever_a_name_holds_is_escaped(compared: Comparison, evidence: Evidence) -> None:
    html = drawn(replace(compared, market=BAIT, note=BAIT), evidence)
    assert BAIT not in html
    assert read(html).count(BAIT) >= 4  # market twice, note, slice, area


def test_a_refusal_is_told_as_one(compared: Comparison, evidence: Evidence) -> None:
    worse = Slice("region", "east", 400, 0.4, 0.5, Interval(-0.1, -0.12, -0.08, 400))
    refused = replace(compared, slices=[worse])
    text = read(drawn(refused, evidence))
    assert "The gate stays shut" in text
    assert "region = east (400 requests)" in text
    assert "worse" in text


def test_an_observed_market_shows_no_truth(
    held_out: tuple[Dataset, Truth], trained: Trained, area: np.ndarray[Any, Any]
) -> None:
    test = held_out[0]
    truth = observed_truth(test)
    table = importances(trained.scorer, test.X)
    gathered = gather(trained.scorer, test, truth, area, importance_shift(None, table), "first")
    comparison = compare(test, truth, {"m": trained.scorer}, "m", market="lucas", resamples=100)
    text = read(drawn(comparison, gathered))
    assert "Observed labels." in text
    assert "True relevance" not in text
    assert "oracle" not in text
    assert all(miss.worth_taken is None for miss in gathered.misses)


def test_tables_of_context_are_shown_where_there_are_any(
    compared: Comparison, evidence: Evidence
) -> None:
    table = pd.DataFrame({"series": ["mortgage rate"], "correlation": [-0.25]})
    text = read(drawn(compared, replace(evidence, correlations=table)))
    assert "mortgage rate" in text
    assert "-0.250" in text


def test_deciles_fall_for_a_good_ranker_and_lie_flat_for_none(
    held_out: tuple[Dataset, Truth], evidence: Evidence
) -> None:
    test, truth = held_out
    worth = [each.relevance or 0.0 for each in evidence.calibration]
    assert [each.decile for each in evidence.calibration] == list(range(1, 11))
    assert sum(each.rows for each in evidence.calibration) == len(test)
    assert worth[0] > 2 * worth[-1]
    for each in evidence.calibration:
        assert each.view >= each.hold >= each.purchase >= 0
    blind = ranks(np.random.default_rng(0).random(len(test)), test.sizes)
    flat = [each.relevance or 0.0 for each in calibration(blind, test, truth)]
    assert max(flat) < 1.5 * min(flat)


def test_where_purchases_stand_is_counted_by_request(held_out: tuple[Dataset, Truth]) -> None:
    test, _ = held_out
    first = bought_within(ranks(test.label.astype(float), test.sizes), test)
    assert first is not None
    assert (first.first, first.first_three, first.first_ten) == (1.0, 1.0, 1.0)
    starts = np.cumsum(test.sizes) - test.sizes
    assert first.requests == int((np.maximum.reduceat(test.label, starts) == 3).sum())
    nothing = replace(test, label=np.zeros_like(test.label))
    assert bought_within(ranks(np.zeros(len(test)), test.sizes), nothing) is None


def test_misses_are_the_furthest_down_one_an_agent_in_words(
    held_out: tuple[Dataset, Truth], evidence: Evidence
) -> None:
    test, _ = held_out
    assert len(evidence.misses) == 6
    asked = pd.Series(test.agent_id, index=test.request_id)
    assert len({asked[miss.request_id] for miss in evidence.misses}) == 6
    places = [miss.position for miss in evidence.misses]
    assert places == sorted(places, reverse=True)
    for miss in evidence.misses:
        assert miss.did == "bought"
        assert 1 < miss.position <= miss.of
        assert 0 < miss.lost <= 1
        assert 0 < len(miss.facts) <= 4
        assert all(fact.words and fact.on_top and fact.taken for fact in miss.facts)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("log_ask_price", np.log(82_000), "82,000 USD"),
        ("is_seller", 0.0, "buyer"),
        ("hours_since_received", 0.5, "30 minutes"),
        ("hours_since_received", 30.0, "30 hours"),
        ("hours_since_received", 240.0, "10 days"),
        ("home_distance_km2", 9.0, "3.0 km"),
        ("ask_vs_area", np.log(1.1), "+10 %"),
        ("lead_holds_7d", 1.0, "1 hold"),
        ("lead_viewers", 3.0, "3 agents"),
        ("year_built", 1987.0, "1987"),
        ("log_lot_area", float("nan"), "not known"),
        ("something_new", 1234.5, "1.23e+03"),
    ],
)
def test_values_are_told_in_plain_words(name: str, value: float, words: str) -> None:
    assert told(name, value, "USD") == words


def test_every_unit_that_can_be_a_reason_has_words() -> None:
    for feature in FEATURES:
        if feature.reason:
            assert not re.search(r"e[+-]|ln ", told(feature.name, 1.0, "USD")), feature.name


def test_the_small_area_is_measured_and_a_floor_is_offered(
    evidence: Evidence, held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    assert {each.group for each in evidence.exposure} == {"east", "west", BAIT}
    assert sum(each.share for each in evidence.exposure) == pytest.approx(1)
    assert sum(each.merit_share for each in evidence.exposure) == pytest.approx(1)
    assert evidence.floor is None  # areas drawn by lot are seen as they merit
    test, truth = held_out
    score = trained.scorer.score(test.X)
    low = np.where(score < np.median(score), "hidden", "seen").astype(object)
    table = importance_shift(None, importances(trained.scorer, test.X))
    starved = gather(trained.scorer, test, truth, low, table, "")
    hidden = next(each for each in starved.exposure if each.group == "hidden")
    assert hidden.below()
    assert starved.floor is not None
    assert starved.floor.still_below == []
    assert starved.floor.after < starved.floor.before


@pytest.mark.parametrize(
    ("mean", "low", "high", "p"),
    [
        (-0.1, -0.2, 0.0, 0.05),
        (0.1, 0.0, 0.9, 0.05),
        (0.0, -0.1, 0.1, 1.0),
        (-0.1, -0.1, -0.1, 0.0),
    ],
)
def test_a_p_value_agrees_with_its_interval(mean: float, low: float, high: float, p: float) -> None:
    assert slices.p_value(Interval(mean, low, high, 500)) == pytest.approx(p, abs=1e-3)


def many(below: Interval, others: int, n: int = 300) -> list[Slice]:
    quiet = Interval(0.01, -0.02, 0.04, n)
    rest = [Slice("tier", f"t{i}", n, 0.5, 0.49, quiet) for i in range(others)]
    return [Slice("tier", "low", below.n, 0.4, 0.45, below), *rest]


def test_one_bad_part_of_many_is_chance_until_it_is_clear(compared: Comparison) -> None:
    barely = Interval(-0.05, -0.099, -0.001, 300)
    assert slices.p_value(barely) < 0.05
    alone = replace(compared, slices=many(barely, others=0))
    assert slices.gate(alone).outcome == "refused"
    among = replace(compared, slices=many(barely, others=9))
    assert slices.gate(among) == judge(replace(compared, slices=[]))
    clear = replace(compared, slices=many(Interval(-0.05, -0.07, -0.03, 300), others=9))
    verdict = slices.gate(clear)
    assert verdict.outcome == "refused"
    assert "tier = low (300 requests)" in verdict.reason
    assert "after Benjamini-Hochberg over 10 slices" in verdict.reason


def test_a_small_part_does_not_refuse_and_does_not_dilute(compared: Comparison) -> None:
    small = many(Interval(-0.05, -0.07, -0.03, 199), others=0, n=199)
    assert slices.gate(replace(compared, slices=small)).promoted
    judged = slices.judge_slices([*small, *many(Interval(-0.05, -0.099, -0.001, 300), others=0)])
    assert [each.counts for each in judged] == [False, True]
    assert np.isnan(judged[0].q_value)
    assert judged[1].q_value == judged[1].p_value
    table = slices.slice_table(replace(compared, slices=[each.slice for each in judged]))
    assert set(table["p adjusted"]) == {"too few to count", f"{judged[1].q_value:.4f}"}
    assert slices.judge_slices([]) == []


def test_parts_of_leads_are_ordered_among_themselves(
    held_out: tuple[Dataset, Truth], trained: Trained
) -> None:
    test, truth = held_out
    number = np.arange(len(test))
    values = np.where(number % 30 == 0, "one a request", "the rest").astype(object)
    perfect, against = truth.relevance, -truth.relevance
    found = slices.among_leads({"lead": values}, perfect, against, test, truth, resamples=100)
    assert [each.value for each in found] == ["the rest"]  # one lead alone has no order
    (rest,) = found
    assert rest.challenger == pytest.approx(1)
    assert rest.peer < 0.9
    assert rest.n == len(test.sizes)


def test_slices_come_from_the_frames_of_the_market(
    home_writer: Callable[..., Settings], lucas: Market, held_out: tuple[Dataset, Truth]
) -> None:
    test, _ = held_out
    home = home_writer()
    of_requests = slices.of_requests(home, lucas, test)
    assert set(of_requests) == {"tier", "agent"}
    assert set(of_requests["tier"]) == {"basic", "pro", "enterprise"}
    assert set(slices.of_leads(home, lucas, test)["region"]) == {slices.ELSEWHERE}
    core = home.data / "core" / lucas.name
    ids = sorted(set(test.lead_id))
    regions = np.where(np.arange(len(ids)) < 50, "tiny", "large")
    pd.DataFrame({"lead_id": ids, "region": regions}).to_parquet(core / "leads.parquet")
    shelf = np.array(["", *["phone/map"] * (len(test.sizes) - 1)], dtype=object)
    told = slices.of_requests(home, lucas, replace(test, shelf=shelf))
    assert told["device"].tolist() == ["unknown", *["phone"] * (len(test.sizes) - 1)]
    assert set(told["surface"]) == {"unknown", "map"}
    plain = np.full(len(test.sizes), "desktop", dtype=object)
    assert "surface" not in slices.of_requests(home, lucas, replace(test, shelf=plain))
    of_leads = slices.of_leads(home, lucas, test)
    assert set(of_leads["region"]) == {"large", slices.ELSEWHERE}
    assert {len(values) for values in of_leads.values()} == {len(test)}
    assert set(of_leads["intent"]) == {"sellers", "buyers"}


def test_importances_say_what_rose_fell_came_and_went() -> None:
    before = pd.DataFrame(
        {"feature": ["a", "b", "old"], "group": ["lead"] * 3, "share": [0.5, 0.3, 0.2]}
    )
    after = pd.DataFrame(
        {"feature": ["a", "b", "new"], "group": ["lead"] * 3, "share": [0.3, 0.3004, 0.3996]}
    )
    shift = importance_shift(before, after).set_index("feature")
    assert shift["moved"].to_dict() == {"new": "new", "a": "fell", "old": "gone", "b": "steady"}
    assert shift.index[0] == "new"
    assert shift["change"]["old"] == pytest.approx(-0.2)
    assert importance_shift(after, before).set_index("feature")["moved"]["a"] == "rose"
    first = importance_shift(None, after)
    assert first["before"].isna().all()
    assert set(first["moved"]) == {""}


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([0.3, 0.2, 0.1], "falls at every step"),
        ([0.0, 0.0, 0.0], "never rises"),
        ([0.3, 0.3, 0.1], "never rises"),
        ([0.1, 0.3, 0.2], "rises at 1 of 2"),
        ([0.1], "one part only"),
    ],
)
def test_deciles_fall_only_where_they_do(rates: list[float], words: str) -> None:
    deciles = [Decile(i, 10, rate, 0.0, 0.0, None) for i, rate in enumerate(rates, start=1)]
    assert _decile_charts(deciles)[0][1] == f"observed; {words}"


def test_a_training_as_tables(trained: Trained, windows: tuple[Dataset, Dataset]) -> None:
    shown = windows_table(windows)
    assert shown.columns.tolist() == ["train", "validate"]
    assert shown.loc["rows", "train"] == len(windows[0])
    assert shown.loc["answered", "train"] <= shown.loc["requests", "train"]
    rankers = rankers_table([trained])
    # what rankers are chosen by is not the NDCG of raw labels, and does not say so
    assert "weighed" in rankers.columns[1]
    assert rankers.loc["QueryRMSE", "version"] == trained.scorer.version
    groups = {each.name: each.group for each in FEATURES}
    shares = group_shares({"QueryRMSE": importances(trained.scorer, windows[1].X, groups)})
    assert shares["QueryRMSE"].sum() == pytest.approx(100, abs=0.5)
    card = trained.scorer.card
    training = Training("p", "QueryRMSE", {"QueryRMSE": Registered(3, "r1", Path("scorer"), card)})
    assert versions_table(training).loc["QueryRMSE"].tolist() == [3, "r1"]
