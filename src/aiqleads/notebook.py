"""What every notebook starts and ends with: its settings, and its named results."""

from __future__ import annotations

import json
from typing import Any

from IPython.display import display

from aiqleads.settings import Settings

#: media type under which an executed notebook carries its named results
RESULT_MEDIA_TYPE = "application/vnd.aiqleads.result+json"


def settings_from(home: str = "") -> Settings:
    """Settings for a notebook: `home` as given by a parameter, or the default when empty."""
    return Settings(home=home) if home else Settings()


def record(**named: Any) -> None:
    """Writes named results (JSON values) into the executed notebook and shows them.

    The pipeline and the tests read them back; a value that JSON cannot hold raises TypeError.
    """
    plain = json.loads(json.dumps(named, allow_nan=True))
    lines = "\n".join(f"{name} = {value}" for name, value in plain.items())
    display({RESULT_MEDIA_TYPE: plain, "text/plain": lines}, raw=True)  # type: ignore[no-untyped-call]
