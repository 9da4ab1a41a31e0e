"""The parameters of a simulated market: a TOML file, validated, with a digest.

The digest covers the parsed parameters and `BEHAVIOUR_VERSION`, so a comment may change
freely while a changed figure, or a changed definition of behaviour, is noticed: the digests
of the presets that ship are committed in `presets/digests.json`.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aiqleads.errors import InvalidInput, UnknownName

#: raised whenever the same parameters would lead to another log
BEHAVIOUR_VERSION = 1

_SHIPPED = Path(__file__).parent / "presets"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
ByTier = Annotated[tuple[NotNegative, ...], Field(min_length=3, max_length=3)]
Pair = tuple[float, float]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Period(_Section):
    """When the log begins, counted back from the end of the training window."""

    train_days: int = Field(gt=0)


class Agents(_Section):
    """Who the agents are: tiers, farm areas, budgets."""

    tier_shares: ByTier
    territory_rings: tuple[int, int, int]
    ring_cells: int = Field(ge=0)
    home_scatter_m: NotNegative
    joins_late_share: Share
    joins_within_days: int = Field(gt=0)
    earlier_days: int = Field(gt=0)
    monthly_budget_cents: tuple[int, int, int]
    budget_spread_sd: NotNegative


class Requests(_Section):
    """How often and when agents ask for leads."""

    per_day: ByTier
    spread_sd: NotNegative
    weekdays: Annotated[tuple[NotNegative, ...], Field(min_length=7, max_length=7)]
    hours: Annotated[tuple[NotNegative, ...], Field(min_length=24, max_length=24)]
    mobile_share: Share


class Policy(_Section):
    """The logging policy's hand-made score and its temperature."""

    shown: int = Field(gt=0)
    temperature: Positive
    random_share: Share
    recency: float
    recency_hours: Positive
    nearness: float
    nearness_m: Positive
    in_band: float


class Examination(_Section):
    """How attention falls with the position."""

    desktop_exponent: NotNegative
    mobile_exponent: NotNegative


class Taste(_Section):
    """Weights and scales of the utility."""

    price: float
    location: float
    size: float
    intent: float
    quality: float
    freshness: float
    overpriced: float
    trend: float
    fee: float
    demand: float
    already_viewed: float
    recent_purchase: float
    spread_sd: NotNegative
    price_centre_sd: NotNegative
    price_width: Positive
    declared_noise_sd: NotNegative
    declared_width: Positive
    area_reach_m: Positive
    home_strength: Pair
    second_strength: Pair
    second_area_min_m: NotNegative
    beds_sd: NotNegative
    specialists: Annotated[tuple[NotNegative, ...], Field(min_length=3, max_length=3)]
    freshness_hours: Positive
    quality_scale: Positive
    fee_reference_cents: int = Field(gt=0)
    demand_days: Positive


class Hidden(_Section):
    """Standard deviations of what no feature shows: the knob of the information ceiling."""

    pair_sd: NotNegative
    appeal_sd: NotNegative
    mood_sd: NotNegative


class Funnel(_Section):
    """Intercept and slope of the three logistic steps."""

    view: Pair
    hold: Pair
    buy: Pair


class Returns(_Section):
    """Chance, delay and reasons of a return."""

    intercept: float
    quality_slope: float
    delay_days_mean: Positive
    delay_days_max: Positive
    reasons: dict[str, Positive] = Field(min_length=1)


class Delays(_Section):
    """Time between the steps of one session."""

    read_seconds_per_position: NotNegative
    view_seconds_mean: NotNegative
    hold_seconds_mean: NotNegative
    close_share_of_hold: Positive


class Arrival(_Section):
    """Time between an event and its arrival in the log."""

    seconds_mean: NotNegative
    late_share: Share
    late_hours_mean: NotNegative


class Gains(_Section):
    """Worth of each outcome in the graded value; nothing and a returned purchase are worth 0."""

    view: NotNegative
    hold: NotNegative
    purchase: Positive


class Preset(_Section):
    """Every parameter of a simulated market."""

    name: str = Field(min_length=1)
    about: str
    period: Period
    agents: Agents
    requests: Requests
    policy: Policy
    examination: Examination
    taste: Taste
    hidden: Hidden
    funnel: Funnel
    returns: Returns
    delays: Delays
    arrival: Arrival
    gains: Gains

    @property
    def digest(self) -> str:
        """sha256 (hex) of the parameters and the behaviour's version."""
        content = {"behaviour": BEHAVIOUR_VERSION, "parameters": self.model_dump(mode="json")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def committed_digests() -> dict[str, str]:
    """The digest with which each preset that ships was frozen."""
    digests: dict[str, str] = json.loads((_SHIPPED / "digests.json").read_text())
    return digests


def load_preset(preset: str | Path) -> Preset:
    """Reads a preset by its name, or from a TOML file by its path.

    Raises UnknownName when neither exists, InvalidInput when the file is not a preset.
    """
    path = Path(preset)
    if isinstance(preset, str) and preset in preset_names():
        path = _SHIPPED / f"{preset}.toml"
    elif not (path.suffix == ".toml" and path.is_file()):
        known = ", ".join(preset_names())
        raise UnknownName(f"no preset {str(preset)!r}: name one of {known}, or a TOML file")
    try:
        return Preset.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path} is not a preset: {where}: {first['msg']}") from error
