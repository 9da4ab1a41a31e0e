"""The last stretch of a ranker's way: measured on the held-out window, judged, in force."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from aiqleads.ingest.market import Market, load_market
from aiqleads.ranking import registry, slices
from aiqleads.ranking.baselines import BASELINES
from aiqleads.ranking.compare import SLICE_PEER, Comparison, Slice, Verdict, compare
from aiqleads.ranking.dataset import Dataset, Truth, load_dataset, load_truth, without_bots
from aiqleads.ranking.evaluate import RESAMPLES
from aiqleads.ranking.evidence import gather
from aiqleads.ranking.importance import importance_shift
from aiqleads.ranking.page import write_page
from aiqleads.ranking.registry import Registered
from aiqleads.ranking.scorer import Scorer
from aiqleads.settings import Settings


def comparison_path(settings: Settings, market_name: str) -> Path:
    """Where the newest comparison of a market lies; its page lies beside it (`page_path`)."""
    return settings.reports / "comparisons" / f"{market_name}.json"


def compare_market(
    settings: Settings,
    market: str,
    *,
    seed: int = 7,
    resamples: int = RESAMPLES,
    now: datetime | None = None,
) -> Comparison:
    """Compares the newest training's rankers with champion, baselines and oracles.

    Writes the comparison and its page. market: a name or the path of a TOML. The window is
    the one after `split.validate_until`, which no ranker has seen. now: stands on the page.
    Raises NotReady when there are no features or no training.
    """
    found = load_market(market, settings)
    training = registry.latest_training(settings, found.name)
    test = without_bots(settings, found, load_dataset(settings, found, "test"))
    truth = load_truth(settings, found, test)
    champion = registry.holder(settings, "champion")
    models = {loss: model.scorer() for loss, model in training.models.items()}
    comparison = compare(
        test,
        truth,
        models,
        training.challenger,
        champion.scorer() if champion else None,
        market=found.name,
        slices=slices.of_requests(settings, found, test),
        seed=seed,
        resamples=resamples,
    )
    challenger = models[training.challenger]
    parts = _lead_slices(settings, found, challenger, test, truth, seed, resamples)
    comparison = replace(comparison, slices=[*comparison.slices, *parts])
    comparison.save(comparison_path(settings, found.name))
    evidence = gather(
        challenger,
        test,
        truth,
        slices.areas(settings, found, test),
        *moved_since(settings, found.name, training.models[training.challenger], champion),
        currency=found.currency,
        seed=seed,
    )
    write_page(settings, comparison, slices.gate(comparison), evidence, now or datetime.now(UTC))
    return comparison


def moved_since(
    settings: Settings, market_name: str, challenger: Registered, champion: Registered | None
) -> tuple[pd.DataFrame, str]:
    """How a ranker's importances moved, and since which ranker, in words.

    Since the champion, where that is another one, else since the training before; see
    `importance_shift`.
    """
    after = pd.read_csv(registry.importances_of(settings, challenger))
    if champion is not None and champion.version != challenger.version:
        before = pd.read_csv(registry.importances_of(settings, champion))
        return importance_shift(before, after), f"against the champion ({champion.card.loss})"
    earlier = registry.previous_importances(settings, market_name, skip=1)
    since = "no earlier ranker to compare with" if earlier is None else "against the run before"
    return importance_shift(earlier, after), since


def promote_run(settings: Settings, run_id: str = "", market: str = "lucas") -> Verdict:
    """Puts a ranker's run before the gate, by the market's newest comparison.

    Without `run_id` it is the newest training's challenger. Raises as `registry.promote`.
    """
    name = load_market(market, settings).name
    if not run_id:
        training = registry.latest_training(settings, name)
        run_id = training.models[training.challenger].run_id
    return registry.promote(settings, run_id, Comparison.load(comparison_path(settings, name)))


def _lead_slices(
    settings: Settings,
    market: Market,
    challenger: Scorer,
    test: Dataset,
    truth: Truth,
    seed: int,
    resamples: int,
) -> list[Slice]:
    return slices.among_leads(
        slices.of_leads(settings, market, test),
        challenger.score(test.columns(challenger.features)),
        BASELINES[SLICE_PEER](test),
        test,
        truth,
        seed=seed,
        resamples=resamples,
    )
