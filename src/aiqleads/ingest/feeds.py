"""The feed file: how each source is reached, proves itself and asks people for consent.

A TOML with one table a source (see docs/how-to/connect-a-feed.md). Nothing here loads
pandas: the serving worker reads it to check a push.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from aiqleads.domain import Intent
from aiqleads.errors import InvalidInput
from aiqleads.ingest.market import Market
from aiqleads.settings import Settings


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Consent(_Part):
    """What a form's people agree to: the words, their version, to how many agents."""

    text: str = Field(min_length=1)
    version: str = Field(min_length=1, max_length=40)
    sellers: int = Field(ge=1, le=3)
    channel: str = Field(default="web form", max_length=40)


class Form(_Part):
    """One form of a source: what it is about, and which question fills which column.

    fields: their question (name or id) -> column of the contract of leads.
    """

    intent: Intent | None = None
    property_type: str | None = None
    fields: dict[str, str] = {}
    consent: Consent | None = None


class Options(_Part):
    """Everything the operator says of one source.

    secret: of signatures, or the key in a body. share: of what a lead is sold for, owed to
    the source.
    intent, consent, fields: where a form states none.
    """

    market: str | None = None
    proof: Literal["hmac", "meta", "google", "linkedin"] | None = None
    secret: SecretStr | None = None
    verify_token: SecretStr | None = None
    access_token: SecretStr | None = None
    url: str | None = None
    requests_per_second: Annotated[float, Field(gt=0, le=100)] = 2.0
    cost_cents: Annotated[int, Field(ge=0)] | None = None
    share: Annotated[Decimal, Field(ge=0, lt=1)] = Decimal(0)
    intent: Intent | None = None
    property_type: str | None = None
    fields: dict[str, str] = {}
    consent: Consent | None = None
    forms: dict[str, Form] = {}

    def form(self, form_id: str) -> Form:
        """One form, with what it leaves open taken from the source."""
        form = self.forms.get(form_id, Form())
        return Form(
            intent=form.intent or self.intent,
            property_type=form.property_type or self.property_type,
            fields={**self.fields, **form.fields},
            consent=form.consent or self.consent,
        )


@dataclass(frozen=True)
class Feed:
    """What a source's parser is told: the market, the options, and the wall clock (us)."""

    market: Market
    options: Options = field(default_factory=Options)
    now_us: int = 0


def feed_options(settings: Settings) -> dict[str, Options]:
    """Options by source; empty where there is no feed file. InvalidInput says what is wrong."""
    file = settings.feeds_file
    if not file.is_file():
        return {}
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
        return {name: Options.model_validate(table) for name, table in given.items()}
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"feed file {file}: {where + ': ' if where else ''}{said}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"feed file {file} cannot be read: {error}") from error
