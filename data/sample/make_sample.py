"""Makes `lucas_sales.parquet` from spData's `house` table as one CSV.

    python data/sample/make_sample.py path/to/lucas_house_sales.csv.gz

Only the storage changes: whole numbers become the smallest integer type that holds
them, repeated words become dictionaries, and the file is compressed. No row is left
out, no value altered; the one column dropped (`sale_date`) is `sdate` written as text.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SAMPLE = Path(__file__).with_name("lucas_sales.parquet")
WORDS = ("stories", "wall", "garage")
LIMIT_BYTES = 2_000_000


def make(csv: Path, out: Path = SAMPLE) -> str:
    """Writes the sample to `out`; gives its SHA-256. The same CSV gives the same bytes."""
    table = pd.read_csv(csv).drop(columns="sale_date")
    for name, column in table.items():
        if name in WORDS:
            table[name] = column.astype("category")
        elif name in ("lon", "lat"):
            table[name] = column.astype("float64")
        elif (column == column.round()).all():
            table[name] = pd.to_numeric(column.astype("int64"), downcast="integer")
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(
        {"title": "Lucas County (Toledo), Ohio, house sales 1993-1998", "licence": "CC0-1.0"}
    )
    pq.write_table(arrow, out, compression="zstd", compression_level=19)
    if out.stat().st_size >= LIMIT_BYTES:
        raise SystemExit(f"{out} has {out.stat().st_size} bytes; it must stay below {LIMIT_BYTES}")
    return hashlib.sha256(out.read_bytes()).hexdigest()


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
