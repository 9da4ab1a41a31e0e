"""Who is one person depends on what people sent, not on when or in which chunks it came."""

from __future__ import annotations

import runpy
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiqleads.ingest import blocking

TESTS = Path(__file__).parents[1]
CASES = runpy.run_path(str(TESTS / "linkage_cases.py"))
STORE = runpy.run_path(str(TESTS / "linkage_store.py"))["LinkageStore"]
SEEDS = st.integers(0, 50)
FEW_EXAMPLES = settings(
    max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@contextmanager
def _store(most: int) -> Iterator[Any]:
    """A store of its own, where keys are full above `most` submissions."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocking, "FULL", most)
        store = STORE(Path(folder))
        yield store
        store.close()


def _sent(seed: int, draw: Callable[..., Any]) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Submissions of some households, and the same in another order, cut into chunks."""
    sent = CASES["submissions"](seed, 30, 1.0).iloc[:90]
    order = draw(st.permutations(range(len(sent))))
    cuts = sorted({0, len(sent), *draw(st.lists(st.integers(0, len(sent)), max_size=6))})
    mixed = sent.iloc[order]
    return sent, [mixed.iloc[start:end] for start, end in pairwise(cuts)]


def _told(store: Any) -> dict[str, Any]:
    """Everything but names: people, leads and the links that hold."""
    links = store.rows("link")
    if len(links):
        links = links[(links["probability"] > 0.5) & links["undone_us"].isna()]
        rows = links[["a", "b", "weight", "same_wish"]].sort_values(["a", "b"])
    return {
        "people": store.groups(store.person_of()),
        "leads": store.groups(store.lead_of()),
        "links": rows.to_numpy().tolist() if len(links) else [],
    }


def _is_whole(store: Any) -> None:
    """Every submission under a lead that stands, counted there; the others are merged."""
    leads = store.rows("lead").set_index("lead_id")
    size = pd.Series(store.lead_of()).value_counts()
    standing = leads[leads["merged_into"].isna()]
    assert standing["submissions"].to_dict() == size.to_dict()
    merged = leads[leads["merged_into"].notna()]
    assert set(merged["merged_into"]) <= set(standing.index)
    assert set(leads["person_id"]) <= set(leads.index)


@FEW_EXAMPLES
@given(SEEDS, st.sampled_from([3, 6, 40]), st.data())
def test_any_order_in_any_chunks_ends_as_one_batch(seed: int, most: int, data: Any) -> None:
    sent, chunks = _sent(seed, data.draw)
    with _store(most) as whole, _store(most) as grown:
        whole.take(sent)
        for chunk in chunks:
            grown.take(chunk)
        _is_whole(grown)
        assert _told(grown) == _told(whole)


@FEW_EXAMPLES
@given(SEEDS, st.data())
def test_what_was_taken_back_ends_the_same_before_and_after_other_chunks(
    seed: int, data: Any
) -> None:
    sent, chunks = _sent(seed, data.draw)
    with _store(40) as whole, _store(40) as grown:
        whole.take(sent)
        grown.take(chunks[0])
        links = grown.rows("link")
        held = links[links["probability"] > 0.5] if len(links) else links
        for a, b in held[["a", "b"]].to_numpy().tolist()[:2] if len(held) else ():
            whole.undo(a, b)
            grown.undo(a, b)
        for chunk in chunks[1:]:
            grown.take(chunk)
        _is_whole(whole)
        _is_whole(grown)
        assert _told(grown) == _told(whole)


@FEW_EXAMPLES
@given(SEEDS, st.data())
def test_the_same_again_changes_nothing(seed: int, data: Any) -> None:
    sent, chunks = _sent(seed, data.draw)
    with _store(40) as store:
        store.take(sent)
        before = _told(store)
        for chunk in chunks:
            store.take(chunk)
        _is_whole(store)
        assert _told(store) == before
