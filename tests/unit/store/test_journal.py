from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aiqleads.store.journal import Journal, read

DAY_US = 86_400_000_000


def test_lines_come_back_by_day(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 5)
    for number, at_us in enumerate((0, DAY_US - 1, DAY_US)):
        journal.append({"number": number, "text": "a\nb é"}, at_us)
    journal.close()
    journal.append({"number": 3}, DAY_US)
    journal.close()
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*"))
    name = f"{os.getpid()}-5.jsonl"
    assert files == [f"1970-01-01/{name}", f"1970-01-02/{name}"]
    assert [line["number"] for line in read(tmp_path)] == [0, 1, 2, 3]


def test_an_unfinished_last_line_is_left_out_and_damage_is_not(tmp_path: Path) -> None:
    path = tmp_path / "1970-01-01" / "1-1.jsonl"
    path.parent.mkdir()
    path.write_text(json.dumps({"number": 1}) + '\n{"num')
    assert list(read(tmp_path)) == [{"number": 1}]
    path.write_text('{"num\n{"number": 1}\n')
    with pytest.raises(json.JSONDecodeError):
        list(read(tmp_path))


def test_no_journal_is_an_empty_one(tmp_path: Path) -> None:
    assert list(read(tmp_path / "none")) == []
