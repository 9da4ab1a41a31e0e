"""The command line as scripts and people meet it: one line and the right exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import structlog

from aiqleads.cli import main

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data" / "sample" / "lucas_sales.parquet"


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


class Shell:
    """Runs the command line at home in a directory of the test."""

    def __init__(
        self, home: Path, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]
    ) -> None:
        self.home, self._patch, self._output = home, patch, output
        patch.setenv("AIQLEADS_HOME", str(home))

    def __call__(self, *words: str | Path) -> Done:
        self._patch.setattr(sys, "argv", ["aiqleads", *map(str, words)])
        self._output.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Done(code, *self._output.readouterr())

    def json(self, *words: str | Path) -> dict[str, object]:
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    yield Shell(tmp_path, monkeypatch, capsys)
    structlog.reset_defaults()  # it logs to a stream that ends with this test


def few_sales(folder: Path, rows: int = 40) -> Path:
    path = folder / "few.csv"
    pd.read_parquet(SAMPLE).head(rows).to_csv(path, index=False)
    return path


def refused(done: Done, *words: str) -> None:
    """Exit code 2, and one line on stderr that names what is wrong."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("aiqleads: ")]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stderr


def test_an_ingest_accounts_for_every_row_and_nothing_is_stored_twice(
    shell: Shell, tmp_path: Path
) -> None:
    path = few_sales(tmp_path)
    first = shell.json("ingest", "sales_csv", path)
    again = shell.json("ingest", "sales_csv", path)
    for report in (first, again):
        parts = ("accepted", "updated", "duplicates", "quarantined")
        assert report["rows_read"] == sum(int(str(report[part])) for part in parts) == 40
    assert first["accepted"] == again["duplicates"]
    assert again["leads"] == first["leads"]
    rules = shell.json("quarantine", "list")["rules"]
    assert sum(rules.values()) >= int(str(first["quarantined"]))


def test_a_payload_of_which_no_row_holds_is_an_alert_and_can_be_replayed(
    shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "cheap.csv"
    pd.read_parquet(SAMPLE).head(12).assign(price=5).to_csv(path, index=False)
    done = shell("ingest", "sales_csv", path, "--json")
    assert done.returncode == 4
    report = json.loads(done.stdout)
    assert report["quarantined"] == report["rows_read"] == 12
    assert done.stderr.splitlines()[-1] == "aiqleads: no row holds; all are in quarantine"
    batch = report["batches"][0]["batch_id"]
    listed = shell.json("quarantine", "list", "--batch", batch)
    assert set(listed["rules"].values()) == {12}
    replayed = shell("quarantine", "replay", "--batch", batch, "--json")
    assert replayed.returncode == 3, "they break the same rule today"
    assert json.loads(replayed.stdout) == {"tried": 12, "held": 0, "batches": {}}
    refused(shell("quarantine", "replay", "--batch", "gone"), "gone")


def test_a_source_that_is_stopped_is_one_line_and_says_how_to_go_on(
    shell: Shell, tmp_path: Path
) -> None:
    path = few_sales(tmp_path, 200)
    shell.json("ingest", "sales_csv", path)
    odd = pd.read_csv(path).rename(columns={"price": "sold_for"})
    odd.to_csv(path, index=False)
    refused(shell("ingest", "sales_csv", path), "price")
    refused(shell("ingest", "sales_csv", path), "stopped", "source resume sales_csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", ["empty.csv"]),
        ("noise.csv", bytes(range(256)) * 40, ["noise.csv"]),
        ("columns.csv", b"price,sdate\n1,2\n", ["columns.csv", "lon"]),
        ("dtype.parquet", None, ["price"]),
        ("gone.csv", None, ["gone.csv"]),
    ],
)
def test_a_payload_that_cannot_be_used_is_one_line_and_nothing_is_stored(
    shell: Shell, tmp_path: Path, name: str, content: bytes | None, words: list[str]
) -> None:
    path = tmp_path / name
    if name == "dtype.parquet":
        frame = pd.read_parquet(SAMPLE).head(20)
        frame["price"] = "a lot"
        frame.to_parquet(path)
    elif content is not None:
        path.write_bytes(content)
    refused(shell("ingest", "sales_csv", path), *words)
    assert not (tmp_path / "data" / "core" / "lucas" / "leads.parquet").exists()


def test_names_that_nothing_answers_to_are_refused_with_those_that_there_are(
    shell: Shell, tmp_path: Path
) -> None:
    path = few_sales(tmp_path)
    refused(shell("ingest", "sales_csv", path, "--market", "atlantis"), "atlantis", "lucas")
    refused(shell("ingest", "gossip", path), "gossip", "sales_csv")
    refused(shell("run", "dance"), "dance", "build_features")
    refused(shell("run", "simulate", "-p", "seed"), "name=value")
    refused(shell("keys", "create", "A0001"), "A0001")
    refused(shell("keys", "create", "operator", "--scope", "everything"), "everything")
    refused(shell("keys", "revoke", "k_nothing"), "k_nothing")
    refused(shell("simulate", "--preset", "paradise"), "paradise", "calm")


def test_a_stage_without_its_inputs_says_what_to_make_first(shell: Shell) -> None:
    refused(shell("simulate"), "leads.parquet")
    refused(shell("run", "build_features"), "leads.parquet")
    refused(shell("package"), "champion")
    refused(shell("serve"), "package")
    refused(shell("publish", "--as-of", "yesterday"), "yesterday")
    refused(shell("rollback"), "previous")


def test_agents_and_keys_are_made_listed_and_revoked(shell: Shell) -> None:
    assert shell.json("agents", "add", "A0001", "--name", "Ann", "--tier", "pro")["new"] is True
    assert shell.json("agents", "add", "A0001", "--name", "Ann", "--tier", "pro")["new"] is False
    listed = shell.json("agents", "list")["agents"]
    assert [(row["agent_id"], row["tier"]) for row in listed] == [("A0001", "pro")]
    key = shell.json("keys", "create", "A0001", "--days", "1")
    assert str(key["key"]).startswith("aiq_")
    assert "ops" not in key["scopes"]
    assert shell.json("keys", "revoke", str(key["key_id"]))["revoked"] is True


def test_a_shop_without_sales_keeps_its_invariants(shell: Shell) -> None:
    shell.json("agents", "add", "A0001", "--name", "Ann")
    checked = shell.json("invariants")
    assert checked.pop("broken") == {}
    assert checked["L1"] is True
    assert shell.json("reconcile")["healed"] == 0


def test_a_do_not_call_list_is_taken_in(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "numbers.txt"
    file.write_text("419,5550123\n212-555-0199\n\nnone\n")
    assert shell.json("do-not-call", file, "--as-of", "2026-11-01") == {"numbers": 2}
    refused(shell("do-not-call", file, "--as-of", "2026-10-01"), "newer")


def test_help_is_given_and_a_misspelt_option_is_exit_code_2(shell: Shell) -> None:
    assert "ingest" in shell("--help").stdout
    assert shell("ingest", "--markte", "x").returncode == 2
    assert set(shell.json("sources")["sources"]) >= {"sales_csv"}


def test_it_runs_as_a_module_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiqleads", "ingest", "gossip"],
        env={**os.environ, "AIQLEADS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    refused(Done(done.returncode, done.stdout, done.stderr), "gossip")
