"""Delivering what the outbox holds to agents' own systems, at least once each.

What is sent is made at that moment from the vault, for the buyer only, and is nowhere kept.
An event is tried until it arrives or its tries are used up; a process that dies between
sending and noting that sends it again, under the same id. Each endpoint has its turn in a
thread of its own, ends its turn with its first failure and then rests for a while, so one that
is slow or dead holds up nobody else.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Engine

from aiqleads.commerce import letters, reports, webhooks
from aiqleads.commerce.disclosure import Disclosure, as_json, disclose
from aiqleads.commerce.endpoints import Target, opened
from aiqleads.commerce.events import REFUND, SOLD, TEST, refund_of
from aiqleads.commerce.lead_table import as_csv
from aiqleads.commerce.webhooks import Outcome
from aiqleads.domain import US_PER_SECOND, moment
from aiqleads.errors import AIQLeadsError, Refused
from aiqleads.settings import Settings
from aiqleads.store import orders, refunds
from aiqleads.store import outbox as rows
from aiqleads.store import returns as notices
from aiqleads.store.database import reader
from aiqleads.store.outbox import Event
from aiqleads.store.refunds import Refund
from aiqleads.store.returns import Return
from aiqleads.store.transactions import writing
from aiqleads.store.vault import Vault

log = structlog.get_logger(__name__)

#: seconds from each try that came to nothing to the next one; after the last one it is dead
PAUSES_S = (5, 60, 300, 1_800, 7_200, 21_600, 43_200, 86_400)
#: a pause is drawn between these shares of it, so that what failed together is not tried together
_JITTER = (0.8, 1.2)
#: what a receiver may ask for at most
_LONGEST_RETRY_AFTER_S = 3_600.0
#: an endpoint that failed rests, from the first of these up to the second, seconds
_REST_S, _LONGEST_REST_S = 5.0, 60.0
_REST_AFTER_FAULT_S = 30.0
_A_TURN = 50
_GONE = 410
_THREADS = 8
# Failures that are no fault of the endpoint.
_NOTHING, _NOT_MADE = "nothing-to-send", "not-made"
_OURS = (_NOTHING, _NOT_MADE)

_SUBJECTS = {SOLD: "A lead that you bought", REFUND: "Money that went back", TEST: "A test"}


@dataclass(frozen=True)
class Delivered:
    """What became of tries: arrived, failed (to be tried again), dead (given up)."""

    arrived: int = 0
    failed: int = 0
    dead: int = 0

    def __add__(self, other: Delivered) -> Delivered:
        return Delivered(
            self.arrived + other.arrived, self.failed + other.failed, self.dead + other.dead
        )


@dataclass(frozen=True)
class _Content:
    """What is sent of an event: its data, as a table where it has one."""

    data: Mapping[str, Any]
    table: str = ""


class _NothingToSend(Exception):
    """What the event is about is not the agent's, or is not there."""


@dataclass
class _Rest:
    failures: int = 0
    until_us: int = 0


class Courier:
    """Sends what is due, each endpoint in a thread; safe to stop and to kill at any time."""

    def __init__(
        self,
        settings: Settings,
        leads: Engine,
        commerce: Engine,
        vault: Vault,
        timezone_of: Callable[[str], str | None],
        now_us: Callable[[], int],
        *,
        deadline_s: float = webhooks.DEADLINE_SECONDS,
        resolver: webhooks.Resolve = webhooks.resolve,
    ) -> None:
        """leads, commerce: the rooms. timezone_of: of a market by name. now_us: wall clock."""
        self._settings, self._leads, self._commerce = settings, leads, commerce
        self._vault, self._timezone_of, self._now_us = vault, timezone_of, now_us
        self._deadline_s, self._resolver = deadline_s, resolver
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="courier")
        self._turns: dict[str, Future[Delivered]] = {}
        self._rests: dict[str, _Rest] = {}
        self._stop = threading.Event()
        self._done = Delivered()

    def start(self) -> int:
        """Begins a turn of each endpoint that has something due; how many were begun."""
        self._collect()
        now_us = self._now_us()
        with reader(self._commerce).connect() as connection:
            agents = rows.due_agents(connection, now_us)
        begun = 0
        for agent_id in agents:
            rests = self._rests.get(agent_id, _Rest()).until_us > now_us
            if agent_id not in self._turns and not rests:
                self._turns[agent_id] = self._pool.submit(self._turn, agent_id)
                begun += 1
        return begun

    def drain(self) -> None:
        """Waits until every turn that was begun has ended."""
        wait(self._turns.values())
        self._collect()

    def taken(self) -> Delivered:
        """What became of the tries since this was asked last."""
        self._collect()
        done, self._done = self._done, Delivered()
        return done

    def close(self) -> None:
        """Lets the tries under way end and begins no more."""
        self._stop.set()
        self._pool.shutdown()
        self._collect()

    def _collect(self) -> None:
        for agent_id, turn in list(self._turns.items()):
            if turn.done():
                del self._turns[agent_id]
                self._done += turn.result()

    # --- one endpoint ------------------------------------------------------------------

    def _turn(self, agent_id: str) -> Delivered:
        try:
            return self._send_due(agent_id)
        except Exception as error:
            log.error("delivery_turn_failed", agent_id=agent_id, why=type(error).__name__)
            self._rest(agent_id, _REST_AFTER_FAULT_S)
            return Delivered()

    def _send_due(self, agent_id: str) -> Delivered:
        with reader(self._commerce).connect() as connection:
            endpoint = rows.endpoint(connection, agent_id)
            due = rows.due(connection, agent_id, self._now_us(), _A_TURN)
        target = None if endpoint is None else opened(self._vault, endpoint)
        done = Delivered()
        if target is None:  # removed meanwhile
            return done
        for event in due:
            if self._stop.is_set():
                break
            outcome = self._try(target, event)
            done += self._note(event, outcome)
            if not outcome.arrived and outcome.failure not in _OURS:
                failures = self._rests.get(agent_id, _Rest()).failures
                self._rest(agent_id, min(_REST_S * 2**failures, _LONGEST_REST_S))
                break
            if outcome.arrived:
                self._rests.pop(agent_id, None)
        return done

    def _rest(self, agent_id: str, seconds: float) -> None:
        before = self._rests.get(agent_id, _Rest())
        until_us = self._now_us() + round(seconds * US_PER_SECOND)
        # Once the longest rest is reached, more failures change nothing.
        self._rests[agent_id] = _Rest(min(before.failures + 1, 10), until_us)

    def _try(self, target: Target, event: Event) -> Outcome:
        try:
            content = self._content(event)
        except _NothingToSend:
            return Outcome(failure=_NOTHING)
        except Refused:
            raise  # the database is busy: no fault of the event, which keeps its tries
        except AIQLeadsError as error:
            log.error("delivery_not_made", event_id=event.event_id, kind=error.kind)
            return Outcome(failure=_NOT_MADE)
        return self._sent(target, event, content)

    def _sent(self, target: Target, event: Event, content: _Content) -> Outcome:
        now_us = self._now_us()
        if target.channel == "webhook":
            body = _body(event, content)
            signing = target.secrets(now_us)
            return webhooks.post(
                target.address,
                webhooks.headers(signing, event.event_id, now_us // US_PER_SECOND, body),
                body,
                private=self._settings.private_webhooks,
                deadline_s=self._deadline_s,
                resolver=self._resolver,
            )
        name = f"{event.event_id}.csv"
        if target.channel == "csv":
            table = content.table or _pairs(event, content.data)
            return letters.keep(self._settings, f"csv/{event.agent_id}", name, table.encode())
        subject = _SUBJECTS.get(event.kind, "A notice")
        if event.lead_id:
            subject += f": {event.lead_id}"
        text = json.dumps(content.data, indent=2, ensure_ascii=False)
        mail = letters.letter(
            self._settings,
            event.event_id,
            target.address,
            subject,
            text,
            (name, content.table),
            event.created_us,
        )
        return letters.send(self._settings, event.event_id, mail)

    def _note(self, event: Event, outcome: Outcome) -> Delivered:
        now_us = self._now_us()
        if outcome.arrived:
            with writing(self._commerce) as connection:
                noted = rows.delivered(connection, event, outcome.status, now_us)
            log.info("delivered", event_id=event.event_id, agent_id=event.agent_id)
            return Delivered(arrived=int(noted))
        next_us = _next_try_us(event, outcome, now_us)
        log.warning(
            "not_delivered",
            event_id=event.event_id,
            agent_id=event.agent_id,
            failure=outcome.failure,
            attempt=event.attempts + 1,
            dead=next_us is None,
        )
        with writing(self._commerce) as connection:
            noted = rows.failed(connection, event, outcome.failure, outcome.status, now_us, next_us)
            if noted and next_us is None:
                notices.tell(connection, _given_up(event, outcome, now_us))
        if not noted:
            return Delivered()
        return Delivered(dead=1) if next_us is None else Delivered(failed=1)

    # --- what is sent ------------------------------------------------------------------

    def _content(self, event: Event) -> _Content:
        if event.kind == SOLD:
            return self._sold(event)
        if event.kind == REFUND:
            return self._refund(event)
        if event.notice_id is not None:
            return self._notice(event, event.notice_id)
        return _Content({"detail": "This is a test. No lead was sold."})

    def _sold(self, event: Event) -> _Content:
        """The order's line and the person, asked anew: only who bought is ever told."""
        lead_id = event.lead_id or ""
        line = reports.line(self._commerce, event.agent_id, event.order_id or "", lead_id)
        made = {} if line is None else self._disclosed(lead_id)
        if line is None or lead_id not in made:
            raise _NothingToSend
        data = {
            "order": {
                "order_id": line.order_id,
                "ordered_at": moment(line.created_us),
                "price_cents": line.price_cents,
                "currency": line.currency,
            },
            "lead": as_json(made[lead_id]),
        }
        return _Content(data, "".join(as_csv([line], lambda _ids: made)))

    def _disclosed(self, lead_id: str) -> dict[str, Disclosure]:
        return disclose(
            self._leads,
            self._commerce,
            self._vault,
            [lead_id],
            self._now_us(),
            self._timezone_of,
        )

    def _refund(self, event: Event) -> _Content:
        """The money that went back, as the books have it now."""
        with reader(self._commerce).connect() as connection:
            data = _given_back(connection, event)
        row = {**data, "lead_ids": " ".join(data["lead_ids"])}
        return _Content(data, _pairs(event, row))

    def _notice(self, event: Event, notice_id: str) -> _Content:
        with reader(self._commerce).connect() as connection:
            told = notices.notice_of(connection, event.agent_id, notice_id)
        if told is None:
            raise _NothingToSend
        return _Content(
            {
                "notice_id": told.notice_id,
                "kind": told.kind,
                "lead_id": told.lead_id,
                "detail": told.detail,
                "created_at": moment(told.created_us),
            }
        )


def _given_back(connection: Connection, event: Event) -> dict[str, Any]:
    """What a refund, or a return that was credited, gave its buyer; _NothingToSend for another's.

    lead_ids: the line that was given back, or all of the order.
    """
    order = orders.find(connection, event.order_id or "")
    made: Refund | Return | None = refunds.find(connection, refund_of(event))
    made = made or notices.find(connection, refund_of(event))
    if order is None or made is None or {order.agent_id, made.agent_id} != {event.agent_id}:
        raise _NothingToSend
    if isinstance(made, Refund):
        cents, state, where = made.amount_cents, made.state, "card" if made.attempt_id else "wallet"
    else:
        cents, state, where = made.credit_cents, "succeeded", "wallet"
    return {
        "refund_id": refund_of(event),
        "order_id": order.order_id,
        "lead_ids": [event.lead_id] if event.lead_id else [each.lead_id for each in order.items],
        "amount_cents": cents,
        "currency": made.currency,
        "to": where,
        "state": state,
        "reason": made.reason,
        "refunded_at": moment(event.created_us),
    }


def _body(event: Event, content: _Content) -> bytes:
    said = {"type": event.kind, "timestamp": moment(event.created_us), "data": content.data}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()


def _pairs(event: Event, data: Mapping[str, Any]) -> str:
    """What has no table of its own: its kind and data, one a line."""
    return reports.csv_text([("type", event.kind), *data.items()])


def _next_try_us(event: Event, outcome: Outcome, now_us: int) -> int | None:
    """When to try again; None where that is over: no tries left, nothing to send, or HTTP 410."""
    final = outcome.status == _GONE or outcome.failure == _NOTHING
    if final or event.attempts >= len(PAUSES_S):
        return None
    pause_s = PAUSES_S[event.attempts] * random.uniform(*_JITTER)
    asked_s = min(outcome.retry_after_s or 0.0, _LONGEST_RETRY_AFTER_S)
    return now_us + round(max(pause_s, asked_s) * US_PER_SECOND)


def _given_up(event: Event, outcome: Outcome, now_us: int) -> notices.Notice:
    """A notice to the agent, one a day however many are given up; never an event itself."""
    day = datetime.fromtimestamp(now_us // US_PER_SECOND, UTC).date()
    return notices.Notice(
        f"delivery-dead:{event.agent_id}:{day}",
        event.agent_id,
        "delivery-dead",
        None,
        f"your endpoint did not take what was sent to it ({outcome.failure}); it is kept, and "
        "GET /v1/deliveries?state=dead lists it",
        now_us,
    )
