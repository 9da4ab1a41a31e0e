"""A live market (its clock is the wall's): the sample's sales moved to these days, simulated
agents, a feed file with secrets, a snapshot and `scorer/`. All that pushes need to be sold."""

from __future__ import annotations

import datetime as dt
import json
import runpy
from pathlib import Path
from typing import Any

import pandas as pd

from aiqleads.domain import Tier
from aiqleads.ingest.aggregate import ingest
from aiqleads.ingest.market import Market, load_market
from aiqleads.market_sim.simulate import simulate
from aiqleads.recommend.publish import publish
from aiqleads.settings import Settings
from aiqleads.store import agents as agent_store
from aiqleads.store.database import open_room
from aiqleads.store.frames import read_frame

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "data" / "sample"
NAME = "live"
SECRETS = {"google_leads": "gk", "meta_leads": "app", "leads_csv": "ours"}
#: the newest sales lie ahead, as people ask some weeks before they sell
_AHEAD = dt.timedelta(days=60)


def build(home: Path, now: dt.datetime, rows: int | None = None, agents: int = 6) -> Settings:
    """Fills an empty home. now: with its zone; rows: of the sample, all where not given."""
    settings = Settings(home=home)
    settings.data.mkdir(parents=True, exist_ok=True)
    market = _market(settings, now, rows)
    settings.feeds_file.write_text(feeds())
    now_us = int(now.timestamp() * 1_000_000)
    ingest(settings, "sales_csv", [], market, now_us=now_us)
    simulate(settings, market, "calm", agents=agents, days=None, seed=7, until=now.date())
    _register(settings)
    publish(settings, NAME, now_us)
    world = runpy.run_path(str(HERE / "serving_world.py"))
    world["make_scorer"](7, 10).save(home / "scorer")
    return settings


def feeds(**more: str) -> str:
    """The feed file: what each form asks, and what its people agree to. more: lines of a source."""
    consent = '{ text = "Agents may call me.", version = "1", sellers = 3 }'
    tables = [
        f'[{name}]\nmarket = "{NAME}"\nsecret = "{secret}"\nintent = "sell"\n'
        f'property_type = "house"\nconsent = {consent}\n'
        f'fields = {{ asking_price = "ask_price_cents" }}\n{more.get(name, "")}\n'
        for name, secret in SECRETS.items()
    ]
    return "\n".join(tables)


def google_lead(
    number: int, zip_code: str = "43604", dollars: int | None = None, **more: Any
) -> bytes:
    """A pushed lead of an invented person, with a ZIP and no address."""
    answers = {
        "FULL_NAME": f"{_word(number)} {_word(number // 26 + 7)}son",
        "EMAIL": f"person.{number}@example.com",
        "PHONE_NUMBER": f"+1 419 555 01{number % 100:02d}",
        "POSTAL_CODE": zip_code,
    }
    if dollars is not None:
        answers["asking_price"] = f"${dollars:,}"
    told = {
        "lead_id": f"push-{number}",
        "form_id": 1,
        "google_key": SECRETS["google_leads"],
        "is_test": False,
        "user_column_data": [
            {"column_id": name, "string_value": value} for name, value in answers.items()
        ],
    }
    return json.dumps(told | more).encode()


def _word(number: int) -> str:
    return "".join(chr(97 + number * step % 26) for step in (7, 11, 17, 19, 23)).title()


def _market(settings: Settings, now: dt.datetime, rows: int | None) -> Market:
    sales = pd.read_parquet(SAMPLE / "lucas_sales.parquet")
    if rows is not None:
        sales = sales.sample(rows, random_state=4)
    sold = pd.to_datetime(sales["sdate"].astype(str), format="%y%m%d")
    moved = sold + (pd.Timestamp((now + _AHEAD).date()) - sold.max())
    folder = settings.data / "sample"
    folder.mkdir()
    sales.assign(sdate=moved.dt.strftime("%Y%m%d")).to_parquet(folder / "live_sales.parquet")
    text = (SAMPLE / "lucas.toml").read_text()
    yesterday = (now - dt.timedelta(days=1)).date()
    changed = {
        'name = "lucas"': f'name = "{NAME}"',
        '"Lucas County (Toledo), Ohio"': '"Lucas County, moved to these days"',
        'clock = "frozen"': 'clock = "wall"',
        "lucas_sales.parquet": "live_sales.parquet",
        "%y%m%d": "%Y%m%d",
        '"1996-12-31"': f'"{yesterday - dt.timedelta(days=300)}"',
        '"1997-12-31"': f'"{yesterday}"',
    }
    for old, new in changed.items():
        if old not in text:
            raise ValueError(f"lucas.toml has no {old}")
        text = text.replace(old, new)
    (folder / f"{NAME}.toml").write_text(text)
    return load_market(NAME, settings)


def _register(settings: Settings) -> None:
    """The simulated agents as buyers of the shop."""
    people = read_frame(settings, NAME, "agents")
    engine = open_room(settings, "commerce")
    rows = [
        agent_store.Agent(agent_id, f"Agent {agent_id}", Tier(tier), NAME)
        for agent_id, tier in zip(people["agent_id"], people["tier"], strict=True)
    ]
    agent_store.add(engine, rows, 0)
    engine.dispose()
