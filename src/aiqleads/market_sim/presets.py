"""The parameters of a simulated market: a TOML file, validated, with a digest.

The digest covers the parsed parameters, `BEHAVIOUR_VERSION` and the definition of relevance,
so a comment may change freely while a changed figure, or a changed definition, is noticed:
the digests of the presets that ship are committed in `presets/digests.json`.

Sections with defaults may be left out of a file; their defaults are without effect. A file
may begin with `like = "calm"`, or another preset that ships: what it does not say is as there.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.market_sim import relevance
from aiqleads.market_sim.marginals import RATES

#: raised whenever the same parameters would lead to another log
BEHAVIOUR_VERSION = 2

_SHIPPED = Path(__file__).parent / "presets"

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NotNegative = Annotated[float, Field(ge=0.0)]
Pair = tuple[float, float]


def _not_all_zero(figures: tuple[float, ...]) -> tuple[float, ...]:
    if not sum(figures) > 0:
        raise ValueError("at least one must be above 0")
    return figures


def _rising(limits: Pair) -> Pair:
    if limits[0] > limits[1]:
        raise ValueError("the first must not lie above the second")
    return limits


def _rate(name: str) -> str:
    if name not in RATES:
        raise ValueError(f"no such rate; there are {', '.join(RATES)}")
    return name


ByTier = Annotated[tuple[NotNegative, ...], Field(min_length=3, max_length=3)]
Parts = AfterValidator(_not_all_zero)  # of a whole, in proportion
Band = Annotated[Pair, AfterValidator(_rising)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Period(_Section):
    """When the log begins, counted back from the end of the training window."""

    train_days: int = Field(gt=0)


class Agents(_Section):
    """Who the agents are: tiers, farm areas, budgets."""

    tier_shares: Annotated[ByTier, Parts]
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
    weekdays: Annotated[tuple[NotNegative, ...], Field(min_length=7, max_length=7), Parts]
    hours: Annotated[tuple[NotNegative, ...], Field(min_length=24, max_length=24), Parts]
    mobile_share: Share
    map_share: Share = 0.0


class Policy(_Section):
    """The logging policy's hand-made score and its temperature."""

    shown: int = Field(gt=0, le=200)
    temperature: Positive
    random_share: Share
    recency: float
    recency_hours: Positive
    nearness: float
    nearness_m: Positive
    in_band: float


class Examination(_Section):
    """How agents look through a ranking; `market_sim.attention` has the models.

    kind: "position" uses the exponents alone, "cascade" the chances of going on instead.
    trust: chance that the first lead of a list is opened because it stands there.
    """

    kind: Literal["position", "cascade"] = "position"
    desktop_exponent: NotNegative
    mobile_exponent: NotNegative
    desktop_go_on: Share = 1.0
    mobile_go_on: Share = 1.0
    go_on_after_click: Share = 1.0
    trust: Share = 0.0
    trust_exponent: NotNegative = 1.0
    map_reach_m: Positive = 2500.0
    map_clutter_m: NotNegative = 400.0
    map_clutter_exponent: NotNegative = 0.5


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
    home_strength: Band
    second_strength: Band
    second_area_min_m: NotNegative
    beds_sd: NotNegative
    specialists: Annotated[ByTier, Parts]  # three kinds, not tiers
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
    """Time between an event and its arrival in the log, and what arrives twice."""

    seconds_mean: NotNegative
    late_share: Share
    late_hours_mean: NotNegative
    duplicate_share: Share = 0.0
    duplicate_minutes_mean: Positive = 30.0


class Rivals(_Section):
    """Buyers outside of every ranking: how many try for a lead, and which leads they like."""

    count: int = Field(default=0, ge=0, le=9999)
    per_lead: NotNegative = 0.0
    liking: float = 0.0
    fading_days: Positive = 4.0


class Bots(_Section):
    """Agents that ask much, open much and never hold."""

    share: Share = 0.0
    requests_per_day: Annotated[float, Field(ge=0.0, le=20.0)] = 0.0
    looks: Share = 1.0
    opens: Share = 0.0


class Season(_Section):
    """The year's wave in requests: 1 + amplitude * cos(2 pi (day of year - peak) / 365.25)."""

    amplitude: Share = 0.0
    peak_day: int = Field(default=152, ge=1, le=366)


class Shock(_Section):
    """A day of the log from which everybody wants cheaper homes, pays less, and minds fees."""

    from_day: int = Field(default=0, ge=0)
    price_shift: float = 0.0
    fee_factor: NotNegative = 1.0
    budget_factor: NotNegative = 1.0


class Drift(_Section):
    """Some agents' price centres and second areas wander off, evenly over some days."""

    share: Share = 0.0
    from_day: int = Field(default=0, ge=0)
    over_days: int = Field(default=0, ge=0)
    price_sd: NotNegative = 0.0


class Gains(_Section):
    """Worth of each outcome in the graded value; nothing and a returned purchase are worth 0."""

    view: NotNegative
    hold: NotNegative
    purchase: Positive

    @property
    def in_order(self) -> tuple[float, float, float]:
        """Of a view, a hold and a kept purchase."""
        return self.view, self.hold, self.purchase


class Preset(_Section):
    """Every parameter of a simulated market.

    plausible: rates (fields of `marginals.Marginals`) and the lowest and highest of each
    that is believable for the sample market at 120 agents; chosen before the first run.
    """

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
    rivals: Rivals = Rivals()
    bots: Bots = Bots()
    season: Season = Season()
    shock: Shock = Shock()
    drift: Drift = Drift()
    plausible: dict[Annotated[str, AfterValidator(_rate)], Band] = Field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 (hex) of the parameters, the behaviour's version and what relevance is."""
        content = {
            "behaviour": BEHAVIOUR_VERSION,
            "relevance": relevance.fingerprint(self.gains.in_order),
            "parameters": self.model_dump(mode="json"),
        }
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
        return Preset.model_validate(_completed(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} is not TOML: {error}") from error
    except UnknownName as error:
        raise InvalidInput(f"{path} is not a preset: like: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"{path} is not a preset: {where}: {first['msg']}") from error


def _completed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with what it leaves to the shipped preset that it is like."""
    like = content.pop("like", None)
    if like is None:
        return content
    if like not in preset_names():
        raise UnknownName(f"{like!r} does not ship: name one of {', '.join(preset_names())}")
    shipped = tomllib.loads((_SHIPPED / f"{like}.toml").read_text(encoding="utf-8"))
    return _over(_completed(shipped), content)


def _over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with the changes; tables are merged, everything else is replaced."""
    merged = dict(base)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(base.get(name), dict)
        merged[name] = _over(base[name], value) if both else value
    return merged
