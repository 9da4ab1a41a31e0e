"""Stages through their public door: once per run key, loudly when they break."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from aiqleads.errors import InvalidInput, NotReady, UnknownName
from aiqleads.pipeline import Stage, StageFailed, latest, run_stage
from aiqleads.settings import Settings

COUNT = """
from pathlib import Path
from aiqleads.notebook import record
out = Path(home) / "data" / "out.txt"
out.write_text(str(int(out.read_text()) + 1) if out.is_file() else "1")
record(runs=int(out.read_text()), doubled=number * 2, alert=alert)
"""
STAGE = Stage(
    "count", "90_count", "counts its runs", reads=("data/in.txt",), writes=("data/out.txt",)
)


def write_notebook(settings: Settings, code: str, *, tagged: bool = True) -> None:
    parameters = new_code_cell('home = ""\nnumber = 1\nalert = False')
    if tagged:
        parameters.metadata["tags"] = ["parameters"]
    book = new_notebook(cells=[new_markdown_cell("# Count"), parameters, new_code_cell(code)])
    book.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    path = settings.home / "notebooks" / "90_count.ipynb"
    path.parent.mkdir(exist_ok=True)
    nbformat.write(book, path)


@pytest.fixture
def counting(home: Settings) -> Settings:
    home.data.mkdir()
    (home.data / "in.txt").write_text("a")
    write_notebook(home, COUNT)
    return home


def run(settings: Settings, **parameters: Any) -> Any:
    return run_stage(settings, STAGE, parameters, progress=False)


def test_a_finished_run_is_not_run_again_until_something_it_depends_on_changes(
    counting: Settings,
) -> None:
    first = run(counting, number=4)
    assert (first.fresh, first.results["runs"], first.results["doubled"]) == (True, 1, 8)
    again = run(counting, number=4)
    assert (again.fresh, again.results["runs"], again.run_key) == (False, 1, first.run_key)

    (counting.data / "in.txt").write_text("b")
    assert run(counting, number=4).results["runs"] == 2, "an input changed"
    assert run(counting, number=5).results["runs"] == 3, "a parameter changed"
    write_notebook(counting, COUNT + "\n# edited")
    assert run(counting, number=5).results["runs"] == 4, "the notebook changed"
    (counting.data / "out.txt").unlink()
    assert run(counting, number=5).results["runs"] == 1, "an output was deleted"


def test_editing_the_package_runs_the_stage_again(
    counting: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(counting).results["runs"] == 1
    monkeypatch.setattr("aiqleads.pipeline.source_digest", lambda: "edited feature")
    assert run(counting).results["runs"] == 2


def test_an_alert_is_exit_code_4_and_stays_one_when_the_run_is_found_finished(
    counting: Settings,
) -> None:
    assert run(counting, alert=True).exit_code == 4
    assert run(counting, alert=True).exit_code == 4


def test_a_broken_cell_keeps_the_executed_notebook_and_does_not_count_as_finished(
    counting: Settings,
) -> None:
    write_notebook(counting, 'raise ValueError("no such cell")')
    with pytest.raises(StageFailed, match="ValueError: no such cell") as failure:
        run(counting)
    kept = list((counting.reports / "runs" / "count").glob("*.failed.ipynb"))
    assert len(kept) == 1
    assert str(kept[0]) in failure.value.detail
    assert latest(counting, "count", "") is None


def test_what_papermill_only_warns_of_is_refused(counting: Settings) -> None:
    with pytest.raises(UnknownName, match="no parameter nubmer; it has alert, home, number"):
        run(counting, nubmer=1)
    write_notebook(counting, COUNT, tagged=False)
    with pytest.raises(InvalidInput, match="no cell tagged `parameters`"):
        run(counting)


def test_a_stage_runs_again_after_the_one_before_it(counting: Settings) -> None:
    later = Stage("later", "90_count", "comes after", after=("count",))
    run(counting)
    assert run_stage(counting, later, {}, progress=False).fresh
    assert not run_stage(counting, later, {}, progress=False).fresh
    run(counting, number=9)
    assert run_stage(counting, later, {}, progress=False).fresh, "the stage before it ran anew"


def test_what_a_cell_refuses_is_the_callers_to_mend(counting: Settings) -> None:
    write_notebook(
        counting,
        "from aiqleads.errors import NotReady\nraise NotReady('simulate first')",
    )
    with pytest.raises(NotReady, match="90_count: simulate first"):
        run(counting)


def test_the_same_stage_does_not_run_twice_at_a_time(counting: Settings, tmp_path: Path) -> None:
    ready, code = (
        tmp_path / "ready",
        "import sys, pathlib, time; from aiqleads.pipeline import _alone",
    )
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"{code}; from aiqleads.settings import Settings\n"
            f"with _alone(Settings(home={str(counting.home)!r}), 'count-'):\n"
            f"    pathlib.Path({str(ready)!r}).touch(); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        env=dict(os.environ),
    )
    try:
        while not ready.exists():
            assert holder.poll() is None
        with pytest.raises(InvalidInput, match="running in another process"):
            run(counting)
    finally:
        holder.communicate(b"")
    assert run(counting).fresh


def test_a_function_is_a_stage_too(home: Settings) -> None:
    calls = []

    def work(settings: Settings, market: str = "", size: int = 1) -> dict[str, Any]:
        calls.append((market, size))
        return {"size": size}

    stage = Stage("work", work, "counts calls")
    for _ in range(2):
        assert run_stage(home, stage, {"market": "lucas", "size": 3}).results == {"size": 3}
    assert calls == [("lucas", 3)]
