"""What a start needs and does not find, said in one line before anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

from aiqleads.commerce import figures
from aiqleads.errors import NotReady
from aiqleads.settings import Settings

_SIDES = ("lead_features", "agent_features", "cross_features")


def check(settings: Settings, scorer: Path) -> None:
    """Raises NotReady naming all that is missing: model, snapshot, rooms of the database;
    InvalidInput for a file of figures (prices, tiers, ..) that cannot be.

    scorer: directory of `model.cbm` and `model.json`. A database server is not asked.
    """
    figures.check()
    missing = [
        f"the model {scorer / name}"
        for name in ("model.cbm", "model.json")
        if not (scorer / name).is_file()
    ]
    if not (settings.data / "snapshots" / "current").is_file():
        missing.append("a published snapshot (`aiqleads publish`)")
    if settings.database_url is None:
        missing += [
            f"the database {settings.data / room}.db ({made_by})"
            for room, made_by in (
                ("leads", "`aiqleads ingest`"),
                ("commerce", "`aiqleads agents add`"),
            )
            if not (settings.data / f"{room}.db").is_file()
        ]
    if missing:
        raise NotReady(
            f"cannot serve from AIQLEADS_HOME={settings.home}: missing {'; '.join(missing)}. "
            "`make demo` makes all of them"
        )
    _check_columns(settings.data / "snapshots", scorer / "model.json")


def _check_columns(snapshots: Path, card: Path) -> None:
    """A model and a snapshot of different columns would only fail in the workers, for ever."""
    version = (snapshots / "current").read_text().strip()
    try:
        manifest = json.loads((snapshots / version / "manifest.json").read_text())
        given = [name for side in _SIDES for name in manifest[side]]
        wanted = json.loads(card.read_text())["features"]
    except (OSError, ValueError, KeyError) as error:
        raise NotReady(f"the snapshot {version} or {card} cannot be read: {error!r}") from error
    if given != wanted:
        odd = ", ".join(sorted(set(given) ^ set(wanted))) or "their order"
        raise NotReady(
            f"the model and the snapshot {version} differ in {odd}: publish again with the "
            "features that the model was trained on (`aiqleads publish`)"
        )
