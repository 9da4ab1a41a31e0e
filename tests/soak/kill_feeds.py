"""kill -9 in the middle of an ingest, many times: a re-run ends with the store of one clean run.

    kill_feeds.py [kills] [rows] [in a row]

An ingest on a fresh home is killed with SIGKILL after a random time, started again, killed
again, so many times in a row; a last run finishes, and every row of the store and every
frame is compared with those of a clean run. A run that ended before its kill is not
counted. Times of the wall clock and what sealing makes random are left out; sealed contacts
are compared opened. Two feeds take turns: listings, and a tenth as many leads with contacts.
Prints one JSON object.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from sqlalchemy import select

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

import feed_payloads  # noqa: E402  (found by the line above)

from aiqleads.settings import Settings  # noqa: E402
from aiqleads.store.database import open_room, reader  # noqa: E402
from aiqleads.store.tables import leads_metadata  # noqa: E402
from aiqleads.store.vault import Vault  # noqa: E402

#: the wall clock, and what is sealed with random nonces
RANDOM = {"ingested_us", "arrived_us", "received_us", "at_us", "kept_at", "contact", "value", "row"}
COMMAND = "import sys; from aiqleads.cli import main; sys.argv[0] = 'aiqleads'; main()"


def main(kills: int = 50, rows: int = 100_000, in_a_row: int = 10) -> None:
    started, differing, inside, trial = time.time(), [], 0, 0
    with tempfile.TemporaryDirectory(prefix="aiqleads-kill-") as folder:
        root = Path(folder)
        feeds = {
            "redfin": feed_payloads.redfin(root / "listings.csv", rows),
            "meta_leads": feed_payloads.meta_leads(root / "people.ndjson", rows // 10),
        }
        clean = {source: run_clean(root, source, path) for source, path in feeds.items()}
        while inside < kills:
            source = "meta_leads" if trial % 4 == 3 else "redfin"
            seconds, digest = clean[source]
            home, draw = fresh_home(root), random.Random(trial)
            for _ in range(in_a_row):
                # What is left gets less with each kill, but for the time it takes to start.
                if not killed(home, source, feeds[source], draw.uniform(0.0, seconds / 2)):
                    break  # it had ended; one more run would rightly be one more batch
                inside += 1
            else:
                finish(home, source, feeds[source])
            if store_digest(home) != digest:
                differing.append({"trial": trial, "source": source})
            remove(home)
            trial += 1
            print(f"{inside} of {kills} killed, {len(differing)} differ", file=sys.stderr)
    made = {
        "name": "feeds.killed_ingests",
        "kills": inside,
        "ingests": trial,
        "rows": rows,
        "differing": differing,
        "ok": not differing,
        "seconds": round(time.time() - started, 1),
    }
    print(json.dumps(made))
    sys.exit(bool(differing))


def fresh_home(root: Path) -> Path:
    home = Path(tempfile.mkdtemp(dir=root))
    (home / "data").mkdir()
    (home / "data" / "feeds.toml").write_text(feed_payloads.FEEDS)
    return home


def start(home: Path, source: str, path: Path) -> subprocess.Popen[bytes]:
    # One matching key for all, or their keyed digests differ.
    matching = base64.b64encode(bytes(32)).decode()
    environment = {**os.environ, "AIQLEADS_HOME": str(home), "AIQLEADS_MATCHING_KEY": matching}
    arguments = [sys.executable, "-c", COMMAND, "ingest", source, str(path), "--json"]
    return subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def finish(home: Path, source: str, path: Path) -> None:
    if code := start(home, source, path).wait():
        raise SystemExit(f"ingest of {source} ended with {code}")


def killed(home: Path, source: str, path: Path, after: float) -> bool:
    """Kills a run after so many seconds; False where it had ended before."""
    process = start(home, source, path)
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return not ended(home)
    return False


def ended(home: Path) -> bool:
    """Whether an ingest had done all its work, and only its process was still there."""
    if any(home.glob("data/core/*/unfinished.json")) or not (home / "data" / "leads.db").is_file():
        return False
    engine = open_room(Settings(home=home), "leads")
    with reader(engine).connect() as connection:
        states = connection.scalars(select(leads_metadata.tables["batch"].c.state)).all()
    engine.dispose()
    return set(states) == {"done"}


def run_clean(root: Path, source: str, path: Path) -> tuple[float, str]:
    home = fresh_home(root)
    started = time.time()
    finish(home, source, path)
    seconds = time.time() - started
    digest = store_digest(home)
    remove(home)
    return seconds, digest


def store_digest(home: Path) -> str:
    """One digest of everything in the room `leads`, its contacts opened, and of the frames."""
    settings = Settings(home=home)
    engine, vault = open_room(settings, "leads"), Vault.open(settings)
    digest = hashlib.sha256()
    with reader(engine).connect() as connection:
        for table in leads_metadata.sorted_tables:
            columns = [each for each in table.columns if each.name not in RANDOM]
            query = select(*columns).order_by(*table.primary_key.columns)
            for row in connection.execute(query):
                digest.update(repr(tuple(row)).encode())
        digest.update(repr(opened_contacts(connection, vault)).encode())
    for frame in sorted(home.glob("data/core/*/*.parquet")):
        digest.update(pd.util.hash_pandas_object(pd.read_parquet(frame)).to_numpy().tobytes())
    vault.close()
    engine.dispose()
    return digest.hexdigest()


def opened_contacts(connection: object, vault: Vault) -> list[bytes | None]:
    table = leads_metadata.tables["submission"]
    query = select(table.c.key_id, table.c.submission_id, table.c.contact)
    rows = list(connection.execute(query.order_by(table.c.submission_id)))
    return vault.unseal(*zip(*rows, strict=True)) if rows else []


def remove(home: Path) -> None:
    import shutil

    shutil.rmtree(home)


if __name__ == "__main__":
    main(*(int(each) for each in sys.argv[1:]))
