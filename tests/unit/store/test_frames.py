from __future__ import annotations

import subprocess
import sys
import threading

import pandas as pd
import pytest

from aiqleads.contracts.frames import FRAMES
from aiqleads.errors import ContractBroken, NotReady
from aiqleads.settings import Settings
from aiqleads.store.database import open_room
from aiqleads.store.frames import (
    frame_path,
    market_lock,
    read_frame,
    store_frame,
    write_blocks,
    write_frame,
)


def test_a_frame_comes_back_as_it_was_written(home: Settings) -> None:
    frame = pd.DataFrame({"agent_id": ["A0001"], "territory": [[1, 2]]})
    path = write_frame(home, "tiny", "agents", frame)
    assert path == frame_path(home, "tiny", "agents") == home.data / "core/tiny/agents.parquet"
    assert read_frame(home, "tiny", "agents", ["agent_id"]).to_dict("list") == {
        "agent_id": ["A0001"]
    }
    assert [each.name for each in path.parent.iterdir()] == ["agents.parquet"]


def test_a_frame_that_breaks_its_contract_leaves_the_old_one(home: Settings) -> None:
    good = pd.DataFrame({"lead_id": ["L1"], "received_market_us": [1]})
    write_frame(home, "tiny", "submissions", good)
    with pytest.raises(ContractBroken, match="submissions"):
        write_frame(home, "tiny", "submissions", good.assign(received_market_us="x"))
    pd.testing.assert_frame_equal(read_frame(home, "tiny", "submissions"), good)


def test_a_frame_that_is_not_there_says_how_to_make_it(home: Settings) -> None:
    with pytest.raises(NotReady, match="aiqleads ingest"):
        read_frame(home, "tiny", "leads")


def test_frames_of_an_empty_store_have_their_types(home: Settings) -> None:
    engine = open_room(home, "leads")
    for name, column in (("leads", "cell"), ("submissions", "received_market_us")):
        store_frame(home, engine, "tiny", name)
        frame = read_frame(home, "tiny", name)
        assert frame.empty
        assert frame[column].dtype == "int64"
    store_frame(home, engine, "tiny", "sales")
    assert list(read_frame(home, "tiny", "sales")) == [each.name for each in FRAMES["sales"]]


def test_a_frame_may_come_in_blocks_and_is_whole_or_not_at_all(home: Settings) -> None:
    blocks = [pd.DataFrame({"lead_id": [f"L{at}"], "received_market_us": [at]}) for at in range(3)]
    write_blocks(home, "tiny", "submissions", blocks)
    assert read_frame(home, "tiny", "submissions")["lead_id"].tolist() == ["L0", "L1", "L2"]
    broken = [*blocks[:2], blocks[2].assign(lead_id=None)]
    with pytest.raises(ContractBroken):
        write_blocks(home, "tiny", "submissions", broken)
    assert len(read_frame(home, "tiny", "submissions")) == 3


def test_two_writers_of_a_market_take_turns(home: Settings) -> None:
    mine = threading.Event()

    def write() -> None:
        with market_lock(home, "tiny"):
            mine.set()

    other = threading.Thread(target=write)
    with market_lock(home, "tiny"):
        other.start()
        assert not mine.wait(0.3)
    other.join(timeout=30)
    assert mine.is_set()


def test_what_the_serving_worker_imports_stays_light() -> None:
    code = (
        "import sys, aiqleads.store.leads, aiqleads.geo.grid, aiqleads.geo.privacy\n"
        "print({'pandas', 'pandera', 'pyarrow', 'pyproj', 'shapely', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
