"""What a source makes of a payload."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Parsed:
    """Canonical rows of a payload, not yet checked against the contract.

    rows: the contract's columns, indexed by row number; a value that could not be read is
    missing there and has a row in problems (index, column, rule, value). columns: kind of
    the values (number, text, date, empty) of each column that the payload has.
    """

    rows: pd.DataFrame
    problems: pd.DataFrame
    columns: dict[str, str]
