"""Fresh shops for the soaks: on a SQLite file of their own, or in a private PostgreSQL."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import private_postgres
from aiqleads.commerce.payments import offline_payments
from aiqleads.commerce.pricing import PriceLine, Quote
from aiqleads.commerce.stripe_standin import StandIn
from aiqleads.commerce.wallet import topup
from aiqleads.settings import Settings
from aiqleads.store.consents import Consent
from aiqleads.store.database import connect, open_room
from aiqleads.store.tables import agent


def agreed(lead_id: str, now_us: int) -> Consent:
    """A consent of the lead's invented person, found just now."""
    return Consent(f"U{lead_id}"[:20], "certificate", 99, now_us)


DATABASES = ("sqlite", "postgresql")


@dataclass(frozen=True)
class Shops:
    """Makes empty shops; each is the settings with which any process opens it.

    server: the PostgreSQL that they are in, None for SQLite.
    """

    folder: Path
    template: Settings
    server: private_postgres.Server | None

    @contextmanager
    def shop(self) -> Iterator[Settings]:
        """A shop with a home of its own, gone when the context ends."""
        home = Path(tempfile.mkdtemp(dir=self.folder))
        (home / "data").mkdir()
        if self.server is None:
            shutil.copy(self.template.data / "commerce.db", home / "data")
            yield Settings(home=home)
        else:
            url = self.server.create(like=str(self.template.database_url))
            yield Settings(home=home, database_url=url)
            self.server.drop(url)
        shutil.rmtree(home)


@contextmanager
def shops(database: str, *, durable: bool = False) -> Iterator[Shops]:
    """Where shops on `database` (one of DATABASES) are made; all is removed in the end.

    durable: PostgreSQL waits for the disk at each commit; SQLite always does.
    """
    for name in [name for name in os.environ if name.startswith("AIQLEADS_STRIPE")]:
        del os.environ[name]  # a soak never speaks with Stripe
    own = private_postgres.server(durable=durable) if database == "postgresql" else nullcontext()
    with tempfile.TemporaryDirectory(prefix="aiqleads-shops-") as folder, own as server:
        url = server.create() if server is not None else None
        template = Settings(home=Path(folder) / "template", database_url=url)
        open_room(template, "commerce").dispose()
        yield Shops(Path(folder), template, server)


def add_agents(engine: Engine, agents: Sequence[tuple[str, str]]) -> None:
    """Writes agents from (id, tier)."""
    rows = [
        {"agent_id": who, "name": who, "tier": tier, "market": "m", "created_us": 0, "version": 0}
        for who, tier in agents
    ]
    with engine.begin() as connection:
        connection.execute(insert(agent), rows)


def fill_wallets(settings: Settings, agents: Sequence[str], cents: int, now_us: int) -> None:
    """Tops wallets up by card, at the offline stand-in of the shop's home."""
    engine = connect(settings, "commerce")
    payments = offline_payments(StandIn(settings.data / "stripe_standin.db"))
    for who in agents:
        topup(engine, payments, who, cents, "pm_card_visa", now_us)
    engine.dispose()


def price(cents: int) -> Quote:
    """A frozen price without history."""
    return Quote(cents, "USD", (PriceLine("base", cents, "a lead"),))


def begin(work: Callable[[], Any]) -> int:
    """Starts `work` in a forked process; its pid. The process ends with 0, or 1 if it raised.

    The caller has no connection open: SQLite's locks do not survive a fork.
    """
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def forked(count: int, work: Callable[[int], Any]) -> None:
    """Runs `work(number)` in so many forked processes at once; RuntimeError if one fails."""
    children = [begin(partial(work, number)) for number in range(count)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        raise RuntimeError(f"workers ended with {codes}")


def asked(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked process of its own."""
    with tempfile.TemporaryFile() as answer:

        def answered() -> None:
            answer.write(pickle.dumps(work()))
            answer.flush()

        forked(1, lambda _: answered())
        answer.seek(0)
        return pickle.loads(answer.read())
