"""The last stretch of a ranker's way: measured on the held-out window, judged, in force."""

from __future__ import annotations

from pathlib import Path

from aiqleads.ingest.market import load_market
from aiqleads.ranking import registry
from aiqleads.ranking.compare import Comparison, Verdict, compare
from aiqleads.ranking.dataset import load_dataset, load_truth, tiers
from aiqleads.ranking.evaluate import RESAMPLES
from aiqleads.ranking.scorer import Scorer
from aiqleads.settings import Settings


def comparison_path(settings: Settings, market_name: str) -> Path:
    """Where the newest comparison of a market lies."""
    return settings.reports / "comparisons" / f"{market_name}.json"


def compare_market(
    settings: Settings, market: str, *, seed: int = 7, resamples: int = RESAMPLES
) -> Comparison:
    """Compares the newest training's rankers with champion, baselines and oracles; saves it.

    market: a name or the path of a TOML. The window is the one after `split.validate_until`,
    which no ranker has seen. Raises NotReady when there are no features or no training.
    """
    found = load_market(market, settings)
    training = registry.latest_training(settings, found.name)
    test = load_dataset(settings, found, "test")
    comparison = compare(
        test,
        load_truth(settings, found, test),
        {loss: model.scorer() for loss, model in training.models.items()},
        training.challenger,
        _champion(settings),
        market=found.name,
        slices={"tier": tiers(settings, found, test)},
        seed=seed,
        resamples=resamples,
    )
    comparison.save(comparison_path(settings, found.name))
    return comparison


def promote_run(settings: Settings, run_id: str = "", market: str = "lucas") -> Verdict:
    """Puts a ranker's run before the gate, by the market's newest comparison.

    Without `run_id` it is the newest training's challenger. Raises as `registry.promote`.
    """
    name = load_market(market, settings).name
    if not run_id:
        training = registry.latest_training(settings, name)
        run_id = training.models[training.challenger].run_id
    return registry.promote(settings, run_id, Comparison.load(comparison_path(settings, name)))


def _champion(settings: Settings) -> Scorer | None:
    held = registry.holder(settings, "champion")
    return held.scorer() if held else None
