"""The rules of the house that a tool can hold: who imports whom, what must be documented."""

from __future__ import annotations

import ast
import json
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

from aiqleads.api.app import create_app
from aiqleads.api.state import ServiceState
from aiqleads.settings import Settings
from aiqleads.stages import STAGES

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_imports_go_one_way_and_vendors_have_one_door() -> None:
    check = subprocess.run([BIN / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert check.returncode == 0, check.stdout


def test_generated_files_are_not_stale() -> None:
    generate = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    stale = [
        str(path.relative_to(ROOT))
        for path, text in generate["generated"]().items()
        if not path.is_file() or path.read_text() != text
    ]
    assert stale == [], "run `make docs`"


def test_the_serving_lock_is_a_part_of_the_whole_lock_with_the_same_hashes() -> None:
    whole, serving = (
        set((ROOT / name).read_text().replace("\\\n", "").splitlines())
        for name in ("requirements.lock", "requirements-serving.lock")
    )
    assert serving <= whole
    names = {line.split("==")[0] for line in serving}
    assert "bentoml" in names
    assert not names & {"mlflow", "jupyterlab", "evidently", "keplergl", "papermill", "geopandas"}
    assert all("--hash=sha256:" in line for line in whole if line.strip())


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-serving.lock", "requirements-uv.lock"]
)
def test_locks_name_no_address(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_every_direct_dependency_is_in_the_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        wanted += extra
    locked = {line.split("==")[0].lower() for line in (ROOT / "requirements.lock").open()}
    for requirement in wanted:
        name = requirement
        for mark in "[<>=!~ ":
            name = name.split(mark)[0]
        assert name.lower() in locked, f"{name}: run `make lock`"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_thin_tagged_and_without_outputs(path: Path) -> None:
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert book.cells[0].cell_type == "markdown"
    assert book.metadata.kernelspec.name == "python3"
    assert [c for c in code if "parameters" in c.metadata.get("tags", [])], "no parameters cell"
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    lines = [line for cell in code for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= 110
    assert not [line for line in lines if line.lstrip().startswith(("def ", "class "))]


def test_every_notebook_of_a_stage_exists() -> None:
    names = {path.stem for path in NOTEBOOKS}
    assert {stage.work for stage in STAGES if isinstance(stage.work, str)} == names


def test_recorded_figures_have_every_field() -> None:
    recorded = ROOT / "reports" / "benchmarks.json"
    if not recorded.is_file():
        return
    for row in json.loads(recorded.read_text()):
        assert {"name", "value", "unit", "peer", "goal", "ok", "n", "day"} <= set(row)


def refusals() -> set[str]:
    """The word of each refusal that the sources make."""
    calls = (
        node
        for path in (ROOT / "src").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args
    )
    return {
        str(call.args[0].value)
        for call in calls
        if ast.unparse(call.func) == "Refused" and isinstance(call.args[0], ast.Constant)
    }


def test_every_refusal_stands_in_the_docs() -> None:
    pages = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in ("commerce", "http-api"))
    assert {"lead-sold", "rate-limited"} <= refusals()
    assert sorted(kind for kind in refusals() if f"`{kind}`" not in pages) == []


def test_every_route_stands_in_the_docs(served: Settings) -> None:
    page = (ROOT / "docs" / "http-api.md").read_text()
    state = ServiceState.open(served, served.home / "scorer")
    try:
        routes = create_app(state).openapi()["paths"]
    finally:
        state.close()
    missing = [
        f"{method.upper()} {path}"
        for path, methods in routes.items()
        for method in methods
        if f"{method.upper()} {path}" not in page
    ]
    assert missing == []
