"""A market is a TOML file: this reads one and says in one line what is wrong with it."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from aiqleads.domain import US_PER_DAY, US_PER_SECOND
from aiqleads.errors import InvalidInput, UnknownName
from aiqleads.settings import Settings

#: a planted repeat comes at most so long after the first submission
REPEAT_WITHIN_DAYS = 3

Share = Annotated[float, Field(ge=0, le=1)]
#: one of theirs, or several that are joined by a space
Names = str | tuple[str, ...]
_AREA = {"sqft": 1.0, "sqm": 10.763910416709722, "acre": 43560.0, "hectare": 107639.10416709722}
_MONEY = {"usd": 100.0, "cents": 1.0, "usd_thousand": 100_000.0, "major": 100.0}
#: ours -> factor of each unit that a feed may use: money to cents, areas to square feet
UNITS: dict[str, dict[str, float]] = {
    "price": _MONEY,
    "close_price": _MONEY,
    "living_area": _AREA,
    "lot_area": _AREA,
    "garage_area": _AREA,
}
REQUIRED = ("price", "lon", "lat")
_HOME = ("beds", "baths", "half_baths", "living_area", "lot_area", "year_built")
_ADDRESS = ("address", "unit", "city", "state", "zip", "lon", "lat")
#: what each section's columns may be called
COLUMNS = (*REQUIRED, "sold", "key", *_HOME, "garage_area", "rooms", "property_type")
LISTING_COLUMNS = (
    "key",
    "mls_id",
    "status",
    "offer",
    "price",
    "close_price",
    "listed",
    "closed",
    "modified",
    "property_type",
    *_ADDRESS,
    *_HOME,
    "days_on_market",
    "agent",
    "demand",
    "url",
)
PEOPLE_COLUMNS = (
    "key",
    "received",
    "intent",
    "name",
    "email",
    "phone",
    "property_type",
    "price",
    *_ADDRESS,
    *_HOME,
    "timeline",
    "financing",
    "consent_text",
    "consent_version",
    "consent_channel",
    "consented",
    "consent_proof",
    "consent_sellers",
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _check_names(section: str, known: tuple[str, ...], **tables: Iterable[str]) -> None:
    for where, names in tables.items():
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(f"[{section}.{where}] knows no {', '.join(unknown)}")


def _check_units(section: str, units: Mapping[str, str]) -> None:
    for name, unit in units.items():
        if unit not in UNITS.get(name, {}):
            known = ", ".join(UNITS.get(name, {})) or "none"
            raise ValueError(f"[{section}.units] {name}: unknown unit {unit!r}; known: {known}")


def _factor(units: Mapping[str, str], name: str) -> float:
    default = "usd" if "price" in name else "sqft"
    return UNITS[name][units.get(name, default)]


class SalesFeed(_Part):
    """How a feed of sales is written: ours = theirs, with units and the date's format.

    columns: one of theirs, or several joined by a space. units: default usd and sqft.
    missing: numbers that stand for "not known". property_type: for a feed of one kind.
    """

    path: Path | None = None
    columns: dict[str, Names]
    date_format: str | None = None
    units: dict[str, str] = {}
    missing: dict[str, tuple[float, ...]] = {}
    property_type: str = "unknown"

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        _check_names("sales", COLUMNS, columns=self.columns, units=self.units, missing=self.missing)
        if absent := [name for name in REQUIRED if name not in self.columns]:
            raise ValueError(f"[sales.columns] needs {', '.join(absent)}")
        if ("sold" in self.columns) != (self.date_format is not None):
            raise ValueError("[sales] date_format and columns.sold come together")
        _check_units("sales", self.units)
        return self

    def factor(self, name: str) -> float:
        """What a value of one of our columns is multiplied by: to cents or to square feet."""
        return _factor(self.units, name)


class _Mapped(_Part):
    """What the maps of listings and of people have in common.

    columns, units: as of sales. date_format: of all its times; ISO 8601 where none is
    said. nothing: words that stand for "not said" in every column. missing: numbers that
    do so in one. constants: what holds for every row. values: by column, their word ->
    ours; a word that is not there stays as it is.
    """

    path: Path | None = None
    columns: dict[str, Names]
    date_format: str = "ISO8601"
    units: dict[str, str] = {}
    nothing: tuple[str, ...] = ()
    missing: dict[str, tuple[float, ...]] = {}
    constants: dict[str, str | float] = {}
    values: dict[str, dict[str, str]] = {}

    def check(self, section: str, known: tuple[str, ...], required: tuple[str, ...]) -> None:
        """ValueError for names and units that the section does not know, or lacks."""
        _check_names(
            section,
            known,
            columns=self.columns,
            units=self.units,
            missing=self.missing,
            constants=self.constants,
            values=self.values,
        )
        _check_units(section, self.units)
        if twice := sorted(set(self.columns) & set(self.constants)):
            raise ValueError(f"[{section}] gives {', '.join(twice)} as column and as constant")
        given = {*self.columns, *self.constants}
        if absent := [name for name in required if name not in given]:
            raise ValueError(f"[{section}.columns] needs {', '.join(absent)}")

    def factor(self, name: str) -> float:
        """What a value of one of our columns is multiplied by: to cents or to square feet."""
        return _factor(self.units, name)


class ListingsFeed(_Mapped):
    """How a table of listings is written; `key` names a listing."""

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        self.check("listings", LISTING_COLUMNS, ("key",))
        return self


class PeopleFeed(_Mapped):
    """How a table of people's enquiries is written; `key` names an enquiry.

    answers: their columns that are kept as what the person said, as JSON. rights:
    `analyse` where nobody agreed to be contacted by a buyer: such leads need no contact
    and are never sold.
    """

    answers: tuple[str, ...] = ()
    rights: Literal["sell", "analyse"] = "sell"

    @model_validator(mode="after")
    def _known_names(self) -> Self:
        self.check("people", PEOPLE_COLUMNS, ("key", "intent"))
        return self


#: units of the contract of series
Unit = Literal["usd", "homes", "days", "share", "index", "usd_per_sqft", "sqft", "months", "ratio"]


class Metric(_Part):
    """One column of a table of series: what we call it, its unit, and what it is times."""

    metric: str = Field(min_length=1, max_length=60)
    unit: Unit
    times: float = 1.0


class SeriesFeed(_Part):
    """How a table of market series is written: a row is a region in a period.

    region, period: one of theirs, or several joined by a space. metrics: theirs -> ours.
    """

    path: Path | None = None
    region: Names
    region_type: str
    period: Names
    date_format: str
    frequency: Literal["week", "month", "quarter", "year"]
    metrics: dict[str, Metric] = Field(min_length=1)


class Regions(_Part):
    """GeoJSON polygons that name the regions; without them a region is an H3 res-6 cell."""

    path: Path
    id: str


class LeadRules(_Part):
    """How leads stand in for people: every share and spread that the stand-in uses.

    lag_days: the enquiry comes that many days before the sale. life_days: how long a lead
    is offered. ask_*: of the logarithm of the price. max_buyers: shares of leads that one,
    two, three agents may buy. received_*: window for feeds without sale dates. stand_in:
    false for a market with leads of its own, whose sales are nothing but sales.
    """

    stand_in: bool = True
    min_price: float = 1_000.0
    lag_days: tuple[int, int] = (35, 98)
    life_days: int = 30
    ask_noise_sd: float = Field(default=0.07, ge=0, le=1)
    ask_markup: float = Field(default=0.03, ge=-1, le=1)
    max_buyers: tuple[Share, Share, Share] = (0.2, 0.3, 0.5)
    buyer_share: Share = 0.25
    duplicate_share: Share = 0.05
    received_from: dt.date | None = None
    received_until: dt.date | None = None

    @model_validator(mode="after")
    def _expires_before_sale(self) -> Self:
        low, high = self.lag_days
        least = self.life_days + REPEAT_WITHIN_DAYS + 2
        if not least <= low <= high:
            raise ValueError(
                f"[leads] lag_days must rise from at least {least} (life_days + "
                f"{REPEAT_WITHIN_DAYS + 2}): no lead may be offered after its sale"
            )
        if abs(sum(self.max_buyers) - 1) > 1e-6:
            raise ValueError("[leads] max_buyers must add up to 1")
        return self


class Split(_Part):
    """Last local day of training and of validation; what follows is the test."""

    train_until: dt.date
    validate_until: dt.date

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.train_until >= self.validate_until:
            raise ValueError("[split] train_until must lie before validate_until")
        return self


class Market(_Part):
    """A metro: its clock, its plane coordinates, its feeds and the rules of its leads.

    state: two letters, for feeds that name towns without one. sales_tax: of what is sold to
    its agents; a price of 1.0625 at a rate of 0.0625 holds 0.0625 of tax. licence: whether
    its leads go only to agents with a licence of the lead's state.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    title: str
    timezone: str
    crs: str | None = None
    state: str | None = Field(default=None, pattern=r"^[A-Z]{2}$")
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    sales_tax: Decimal = Field(default=Decimal(0), ge=0, lt=1)
    licence: bool = False
    clock: Literal["frozen", "wall"] = "wall"
    sales: SalesFeed | None = None
    listings: ListingsFeed | None = None
    people: PeopleFeed | None = None
    series: SeriesFeed | None = None
    regions: Regions | None = None
    leads: LeadRules = LeadRules()
    split: Split | None = None

    @field_validator("timezone")
    @classmethod
    def _timezone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"unknown timezone {name!r}") from error
        return name

    @model_validator(mode="after")
    def _state_of_a_licence(self) -> Self:
        if self.licence and self.state is None:
            raise ValueError("licence needs state: that of leads whose ZIP is not known")
        return self

    @model_validator(mode="after")
    def _clock_is_known(self) -> Self:
        if self.clock == "frozen" and self.split is None:
            raise ValueError("a frozen clock needs [split]: it stands after validate_until")
        window = (self.leads.received_from, self.leads.received_until)
        undated = self.sales is not None and "sold" not in self.sales.columns
        if undated and self.leads.stand_in and None in window:
            raise ValueError(
                "a feed without sale dates needs [leads] received_from and received_until"
            )
        return self

    def midnight_us(self, day: dt.date) -> int:
        """UTC microseconds at which a local day starts."""
        local = dt.datetime.combine(day, dt.time(), ZoneInfo(self.timezone))
        return int(local.timestamp()) * US_PER_SECOND

    @property
    def as_of_us(self) -> int | None:
        """Where a frozen market clock stands, UTC microseconds; none for a live market.

        It is the start of the local day after `split.validate_until`.
        """
        if self.clock == "wall" or self.split is None:
            return None
        return self.midnight_us(self.split.validate_until + dt.timedelta(days=1))

    @property
    def life_us(self) -> int:
        """How long a lead is offered, in microseconds."""
        return self.leads.life_days * US_PER_DAY


def _read(file: Path) -> Market:
    """Parses one market file; paths in it are seen from the file."""
    try:
        market = Market.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"market file {file}: {where + ': ' if where else ''}{said}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"market file {file} cannot be read: {error}") from error
    return _rooted(market, file.resolve().parent)


def _rooted(market: Market, root: Path) -> Market:
    parts = {
        name: part.model_copy(update={"path": root / part.path})
        for name in ("sales", "listings", "people", "series", "regions")
        if (part := getattr(market, name)) is not None and part.path is not None
    }
    return market.model_copy(update=parts)


def _sample_folders(settings: Settings) -> tuple[Path, ...]:
    checkout = Path(__file__).resolve().parents[3] / "data" / "sample"
    return (settings.data / "sample", checkout)


def _kept(settings: Settings, name: str) -> Path:
    return settings.data / "core" / name / "market.json"


def remember_market(settings: Settings, market: Market) -> Path:
    """Keeps the market beside its frames, so that later stages know it by name alone."""
    file = _kept(settings, market.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(market.model_dump_json(indent=1), encoding="utf-8")
    return part.replace(file)


def remembered_markets(settings: Settings) -> list[Market]:
    """Every market that was ingested, by name."""
    files = sorted((settings.data / "core").glob("*/market.json"))
    return [Market.model_validate_json(file.read_text(encoding="utf-8")) for file in files]


def remembered_crs(settings: Settings, name: str) -> str | None:
    """Coordinate system that a market's stored leads are in, None before the first."""
    kept = _kept(settings, name)
    if not kept.is_file():
        return None
    return Market.model_validate_json(kept.read_text(encoding="utf-8")).crs


def load_market(path_or_name: str | Path, settings: Settings) -> Market:
    """The market of a TOML file, or of a name.

    A name is looked up among the samples (`<name>.toml`) and then among the markets that
    were ingested. Raises UnknownName with the names there are, InvalidInput for a file
    that cannot be used.
    """
    text = str(path_or_name)
    if text.endswith(".toml") or "/" in text:
        return _read(Path(path_or_name))
    folders = _sample_folders(settings)
    for folder in folders:
        if (folder / f"{text}.toml").is_file():
            return _read(folder / f"{text}.toml")
    kept = _kept(settings, text)
    if kept.is_file():
        return Market.model_validate_json(kept.read_text(encoding="utf-8"))
    known = {file.stem for folder in folders for file in folder.glob("*.toml")}
    known |= {file.parent.name for file in (settings.data / "core").glob("*/market.json")}
    raise UnknownName(f"no market {text!r}; known: {', '.join(sorted(known)) or 'none'}")
