"""The main job on the sample: every notebook through Papermill, the service, a purchase.

The simulated market is smaller than the demo's own and the rankers have fewer trees; all
else is what `make demo` does.
"""

from __future__ import annotations

import html
from pathlib import Path

import nbformat
import pytest

from aiqleads.demo import STAGES_AFTER_SERVING, STAGES_BEFORE_SERVING, DemoReport, run_demo, show
from aiqleads.pipeline import checkout_path
from aiqleads.settings import Settings
from aiqleads.stages import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = {
    "simulate": {"agents": 40},
    "train_ranker": {"iterations": 60, "losses": "Funnel,QueryRMSE", "sweep_trials": 2},
    "compare_rankers": {"resamples": 500},
    "check_drift": {"weeks": 8},
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("demo"), workers=2)


@pytest.fixture(scope="module")
def report(house: Settings) -> DemoReport:
    return run_demo(house, parameters=SMALL)


def test_every_stage_ran_and_every_notebook_was_executed(
    house: Settings, report: DemoReport
) -> None:
    assert {row["how"] for row in report.stages} == {"ran"}
    names = {*STAGES_BEFORE_SERVING, *STAGES_AFTER_SERVING}
    assert names == {stage.name for stage in STAGES}
    executed = sorted((house.reports / "runs").glob("*/*.ipynb"))
    assert len(executed) == sum(isinstance(stage.work, str) for stage in STAGES)
    for path in executed:
        cells = nbformat.read(path, as_version=4).cells
        outputs = [out for cell in cells for out in cell.get("outputs", [])]
        assert not [out for out in outputs if out.output_type == "error"]
        assert path.stat().st_size < 3_000_000


def test_leads_are_accounted_for(report: DemoReport) -> None:
    found = report.results["ingest_leads"]
    assert found["rows_read"] == 25_357
    assert (
        found["accepted"] + found["updated"] + found["duplicates"] + found["quarantined"]
        == (found["rows_read"])
    )
    # A fifth of them has nothing in common but a name nearby, or the home: that is no proof.
    assert 0.65 < found["repeats_found"] / found["repeats_planted"] <= 0.8
    assert found["leads"] == found["sellers"] + found["buyers"]


def test_the_champion_beats_every_baseline_and_not_the_oracle(report: DemoReport) -> None:
    found = report.results["compare_rankers"]
    assert found["outcome"] == "promoted"
    assert found["simulated"] is True
    assert all(difference["low"] > 0 for difference in found["over_baselines"].values())
    champion = found["ndcg10"][found["champion"]]["mean"]
    assert champion < found["ndcg10"]["taste oracle"]["mean"] < 1.0001
    assert found["ndcg10"]["full oracle"]["mean"] == pytest.approx(1)


def test_a_search_was_made_and_the_first_training_has_none_before_it(report: DemoReport) -> None:
    found = report.results["train_ranker"]
    assert found["sweep_trials"] == 2
    # the best takes the place of its loss's ranker where it is better, and only there
    assert found["sweep_best_ndcg10"] <= max(found["validate_ndcg10"].values())
    assert set(found["validate_ndcg10"]) == {"Funnel", "QueryRMSE"}
    assert set(found["moved"].values()) <= {"", None}


def test_the_comparison_is_a_page_and_no_part_is_left_behind(
    house: Settings, report: DemoReport
) -> None:
    found = report.results["compare_rankers"]
    text = (house.home / found["page"]).read_text()
    assert found["reason"] in html.unescape(text)
    assert "Simulated." in text
    assert found["slices_counted"] >= 8
    assert found["slices_worse"] == []


def test_the_agent_was_recommended_what_it_bought_and_the_books_balance(
    report: DemoReport,
) -> None:
    shopping = report.shopping
    assert [order["state"] for order in shopping.orders] == ["paid", "paid"]
    assert [order["pay_with"] for order in shopping.orders] == ["wallet", "card"]
    assert shopping.ledger_sum_cents == 0
    assert all(one["ok"] for one in shopping.invariants["invariants"].values())
    assert "stand-in" in shopping.payments
    bought = {item["lead_id"] for order in shopping.orders for item in order["items"]}
    shown = {item["lead_id"] for item in shopping.recommendations}
    assert len(bought) == 2
    assert all(len(item["reasons"]) == 3 for item in shopping.recommendations)
    assert len(shown) == len(shopping.recommendations)


def test_what_it_names_can_be_opened(house: Settings, report: DemoReport) -> None:
    for name, path in report.paths.items():
        assert path, name
        assert (house.home / path).is_file(), name


def test_the_closing_table_tells_what_happened(
    report: DemoReport, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show(report)
    shown = capsys.readouterr().out
    champion = report.results["compare_rankers"]["champion"]
    for words in ("invented", champion, "full oracle", "make serve", "sums to 0 cents", "drift"):
        assert words in shown


def test_a_second_demo_does_nothing_again_and_buys_nothing_more(
    house: Settings, report: DemoReport
) -> None:
    again = run_demo(house, parameters=SMALL)
    fresh = [row["stage"] for row in again.stages if row["how"] == "ran"]
    assert fresh == ["serve and shop"]
    assert again.shopping.orders == report.shopping.orders
    assert again.shopping.invariants["ok"] is True


def test_another_home_finds_the_notebooks_of_the_checkout(tmp_path: Path) -> None:
    found = checkout_path(Settings(home=tmp_path), "notebooks/00_tour.ipynb")
    assert found.is_file()
