"""What a worker holds while it serves: opened once, handed to every route."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Self, cast

from fastapi import Depends, Request
from sqlalchemy import Engine

from aiqleads.api.preflight import check
from aiqleads.commerce import licences
from aiqleads.commerce.consent import Register
from aiqleads.commerce.payments import Payments, open_payments
from aiqleads.monitoring import metrics
from aiqleads.ranking.scorer import Scorer
from aiqleads.recommend.recommend import check_features
from aiqleads.recommend.snapshot import Shelf, Snapshot
from aiqleads.settings import Settings
from aiqleads.store.database import connect
from aiqleads.store.journal import Journal
from aiqleads.store.vault import Vault


def wall_now_us() -> int:
    """The wall clock, UTC microseconds since the epoch."""
    return time.time_ns() // 1_000


@dataclass
class ServiceState:
    """Model, snapshots, rooms, payments and clock of one worker."""

    settings: Settings
    scorer: Scorer
    shelf: Shelf
    leads: Engine
    commerce: Engine
    payments: Payments
    journal: Journal
    now_us: Callable[[], int] = wall_now_us

    @classmethod
    def open(cls, settings: Settings, scorer_directory: Path) -> Self:
        """Opens everything under the settings' home; NotReady says what is missing."""
        check(settings, scorer_directory)
        scorer = Scorer.load(scorer_directory)

        def accept(snapshot: Snapshot) -> None:
            check_features(scorer, snapshot)
            metrics.SNAPSHOT_AS_OF.set(snapshot.manifest.as_of_market_us / 1e6)
            metrics.SNAPSHOT_LEADS.set(snapshot.manifest.leads)

        return cls(
            settings=settings,
            scorer=scorer,
            shelf=Shelf(settings, accept),
            leads=connect(settings, "leads"),
            commerce=connect(settings, "commerce"),
            payments=open_payments(settings),
            journal=Journal(settings.data / "journal", wall_now_us()),
        )

    def close(self) -> None:
        """Lets go of files and connections."""
        self.journal.close()
        self.leads.dispose()
        self.commerce.dispose()
        if "vault" in self.__dict__:
            self.vault.close()

    @cached_property
    def vault(self) -> Vault:
        """Data keys and pushed bodies; opened when it is first asked for."""
        return Vault.open(self.settings)

    @cached_property
    def register(self) -> Register:
        """Which leads may be sold at this moment."""
        return Register(self.leads, licences.asking(self.settings))

    @property
    def payments_notice(self) -> str:
        """Which Stripe takes the money."""
        if self.payments.standin is not None:
            return "Card payments go to an offline stand-in for Stripe: no money moves."
        if self.settings.stripe_api_base is not None:
            return f"Card payments go to {self.settings.stripe_api_base} instead of Stripe."
        return "Card payments go to Stripe."

    @property
    def notice(self) -> str:
        """What is not real: the market's people, as the snapshot says, and the money."""
        return f"{self.snapshot.manifest.notice} {self.payments_notice}".strip()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in force."""
        return self.shelf.snapshot(self.now_us())


def _state(request: Request) -> ServiceState:
    return cast(ServiceState, request.app.state.service)


State = Annotated[ServiceState, Depends(_state)]
