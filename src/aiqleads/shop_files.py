"""The shop's files of figures: each fault is one line that names file and key."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiqleads.errors import InvalidInput


class Table:
    """A table of a file, asked for its keys by type."""

    def __init__(self, file: str, raw: Any, keys: Iterable[str], at: str = "") -> None:
        """Takes a table of exactly these keys. at: its own, "pro." say."""
        self.file, self.raw, self.at = file, raw, at
        if not isinstance(raw, dict):
            raise InvalidInput(f"{file}: {at.rstrip('.')} must be a table")
        odd = sorted(set(keys) ^ set(raw), key=lambda key: (key not in raw, key))
        for key in odd[:1]:
            raise self.wrong(key, "is not a key of it" if key in raw else "is missing")

    def wrong(self, key: str, why: str) -> InvalidInput:
        """The error that names a key of this table."""
        return InvalidInput(f"{self.file}: {self.at}{key} {why}")

    def whole(self, key: str, least: int) -> int:
        """A whole number."""
        value = self.raw[key]
        if type(value) is not int or value < least:
            raise self.wrong(key, f"is {value!r}, must be a whole number >= {least}")
        return value

    def number(self, key: str, least: float = 0.0, most: float = math.inf) -> float:
        """A finite number."""
        value = self.raw[key]
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.wrong(key, f"is {value!r}, must be a number")
        if not least <= value <= most:
            raise self.wrong(key, f"is {value!r}, must be in [{least:g}, {most:g}]")
        return float(value)

    def numbers(self, key: str) -> list[float]:
        """A list of finite numbers that is not empty."""
        given = self.raw[key]
        if not isinstance(given, list) or not given:
            raise self.wrong(key, "must be a list of numbers")
        one = {str(at): value for at, value in enumerate(given)}
        inside = Table(self.file, one, one, f"{self.at}{key}.")
        return [inside.number(at, -math.inf) for at in one]

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self.raw[key]
        if not isinstance(value, str) or not value:
            raise self.wrong(key, f"is {value!r}, must be a text")
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.raw[key]
        if type(value) is not bool:
            raise self.wrong(key, f"is {value!r}, must be true or false")
        return value

    def table(self, key: str, keys: Iterable[str]) -> Table:
        """A table inside this one."""
        return Table(self.file, self.raw[key], keys, f"{self.at}{key}.")


def read(path: Path) -> dict[str, Any]:
    """A file's content; InvalidInput where it is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InvalidInput(f"{path.name}: {problem}") from problem
