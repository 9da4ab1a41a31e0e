"""Who wrote twice: finds the submissions of one person, and makes one lead of one wish.

Submissions that share a key (`blocking`) are compared (`comparisons`); a pair whose log2
odds reach the model's threshold, and that no veto forbids, is linked. Linked submissions
are one person (`clusters`, with a guard against households); of a person's submissions
those with one intent in one market, none more than 14 days after the one before, are one
lead. A second home to sell within that time is the same wish: the agent asks once.

What is linked depends on the submissions alone, neither on their order nor on how they
were cut into batches. A pair is judged when the later of the two comes; what could change
afterwards is only that a key fills up (see `blocking`), and then the links between its
submissions are judged again in the same plan. Pairs that came into one component and
must stay apart are kept as rows of `link` under probability one half.

A lead is the one that was stored first; among stored ones, and among new ones, the one
received first. Every link can be taken back (`undo`); then the two stay apart, and leads
that had been merged stand for themselves again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection

from aiqleads.ingest.blocking import candidates, keys_of
from aiqleads.ingest.clusters import WISH_US, Pair, Wish, components, pair
from aiqleads.ingest.comparisons import (
    LEVELS,
    NULL,
    Compared,
    Model,
    Positions,
    compare,
    trained_model,
    weigh,
)
from aiqleads.ingest.identity import identities
from aiqleads.ingest.ids import lead_ids
from aiqleads.ingest.reach import email_key, phone_key
from aiqleads.ingest.regroup import Link, Member, Regrouped, regroup
from aiqleads.store import links as store
from aiqleads.store.leads import submission_contacts
from aiqleads.store.links import Stored
from aiqleads.store.vault import Vault

_LONGEST_RULE = 60
#: levels that speak for one person, as a lead's rule names them, strongest first
_SPEAKS = {
    ("email", "exact"): "same e-mail",
    ("email", "exact, at one home"): "same e-mail",
    ("phone", "exact"): "same phone",
    ("phone", "exact, at one home"): "same phone",
    ("phone", "exact, long after"): "same phone",
    ("phone", "exact, of fiction"): "same phone",
    ("email", "similar"): "similar e-mail",
    ("phone", "similar"): "similar phone",
    ("home", "same home, same name"): "same name and home",
    ("home", "same building, same name"): "same name and building",
    ("home", "same home, same surname"): "same surname and home",
    ("home", "same home, other name"): "same home",
    ("home", "near"): "home near",
    ("home", "same ZIP"): "same ZIP",
    ("first", "exact"): "same first name",
    ("last", "exact"): "same surname",
}


@dataclass(frozen=True)
class Plan:
    """What a chunk of submissions changes; `save` writes it.

    lead_of: fresh submission -> (lead, rule), its own and '' for one that makes its lead.
    person_of: lead -> person. merges: stored leads (loser, winner, rule). moves: stored
    submissions (submission, lead, rule). revived: merged leads that stand for themselves
    again; split: new lead -> the stored submission that gets it. links: rows of `link`;
    dropped: pairs that no longer hold. keys: (digest, submission). touched: leads whose
    submissions are to be counted.
    """

    lead_of: dict[str, tuple[str, str]]
    person_of: dict[str, str]
    merges: list[tuple[str, str, str]]
    moves: list[tuple[str, str, str]]
    revived: list[str]
    split: dict[str, str]
    links: list[dict[str, Any]]
    dropped: list[Pair]
    keys: list[tuple[bytes, str]]
    touched: set[str]


def plan(
    connection: Connection, fresh: pd.DataFrame, vault: Vault, model: Model | None = None
) -> Plan:
    """Finds what fresh submissions repeat, among themselves and of those stored.

    fresh: indexed by submission_id; columns lead_id (its own, proposed), market, intent,
    name, email, phone, address, unit, zip, utm_x_m, utm_y_m, received_market_us, and
    place_precision (only a point is a home). A submission that is stored already is read
    anew. Nothing is written.
    """
    judge = _Judge(connection, vault, model or trained_model(), fresh)
    keys = judge.digests()
    renewed = store.keys_of(connection, keys)
    found = candidates(connection, keys, renewed)
    # What a renewed submission said before counts no more.
    before = store.known_pairs(connection, renewed)
    outdated = found.again | {ends for ends, each in before.items() if not each.undone}
    links = judge.links(found.pairs, found.full)
    dropped = outdated - links.keys()
    made, apart = _regrouped(judge, links, dropped)
    own = judge.own_lead
    return Plan(
        lead_of={who: made.lead_of.get(who, (own[who], "")) for who in keys},
        person_of={lead_id: lead_id for lead_id in own.values()} | made.person_of,
        merges=made.merges,
        moves=made.moves,
        revived=made.revived,
        split=made.split,
        links=[*links.values(), *apart],
        dropped=sorted(dropped),
        keys=[(digest, who) for who, digests in keys.items() for digest in digests],
        touched={lead_id for lead_id, _ in made.lead_of.values()} | made.person_of.keys(),
    )


def save(connection: Connection, plan: Plan) -> None:
    """Writes a plan, after the fresh leads and submissions were stored; twice is as once."""
    keys: dict[str, list[bytes]] = {who: [] for who in plan.lead_of}
    for digest, who in plan.keys:
        keys[who].append(digest)
    store.put_keys(connection, keys)
    store.put_links(connection, plan.links, plan.dropped)
    _save_leads(connection, plan, plan.touched)


def undo(connection: Connection, a: str, b: str, now_us: int) -> None:
    """Takes a link between two submissions back; from now on the two stay apart.

    Leads that only the link had made one stand for themselves again. now_us: wall clock.
    UnknownName where the two are not linked.
    """
    store.take_back(connection, *pair(a, b), now_us)
    known = store.reached(connection, (a, b))
    links = {
        ends: told_link(each.weight, each.explanation) for ends, each in known.items() if each.holds
    }
    apart = {ends for ends, each in known.items() if not each.holds}
    nodes = {end for ends in links for end in ends} | {a, b}
    members = {who: _member(each) for who, each in store.stored(connection, nodes).items()}
    made = regroup(members, links, apart)
    _save_leads(connection, made, made.person_of)


def explain(connection: Connection, lead_id: str) -> list[dict[str, Any]]:
    """Why a lead's submissions are one person, and from whom they are kept apart.

    One dict a pair: a, b (submissions), verdict (linked, apart, undone), probability,
    weight (log2 odds), same_wish, and comparisons: for each its level and weight. It holds
    nothing that a person wrote. UnknownName for no such lead.
    """
    made = []
    for row in store.links_of_lead(connection, lead_id):
        apart = row["probability"] < store.LINKED
        verdict = "undone" if row["undone_us"] is not None else "apart" if apart else "linked"
        told = json.loads(row.pop("explanation"))
        made.append({**row, "verdict": verdict, **told})
    return made


def _save_leads(connection: Connection, made: Plan | Regrouped, touched: Collection[str]) -> None:
    store.split_off(connection, made.split)
    store.revive(connection, made.revived)
    store.move(connection, made.moves)
    store.merge(connection, [(loser, winner) for loser, winner, _ in made.merges])
    changed = {lead_id: made.person_of[lead_id] for lead_id in touched if lead_id in made.person_of}
    store.put_people(connection, changed)
    store.count_submissions(connection, touched)


class _Judge:
    """Compares pairs of a plan's submissions; contacts of stored ones are opened as needed."""

    def __init__(
        self, connection: Connection, vault: Vault, model: Model, fresh: pd.DataFrame
    ) -> None:
        self.connection, self.model = connection, model
        self._vault = vault
        self._people = identities(fresh)
        self._kinds = _kinds(fresh)
        ids = [str(each) for each in fresh.index]
        self._at = {who: at for at, who in enumerate(ids)}
        self.own_lead = dict(zip(ids, fresh["lead_id"].tolist(), strict=True))

    def digests(self) -> dict[str, list[bytes]]:
        """The keyed digests of each fresh submission, none twice."""
        keys = keys_of(self._people)
        flat = iter(self._vault.match(key for some in keys for key in some))
        return {
            who: [next(flat) for _ in some] for who, some in zip(self.own_lead, keys, strict=True)
        }

    def wish(self, who: str) -> Wish:
        """What tells a submission's wish from others; its contact is open already."""
        at = self._at[who]
        return Wish(*self._kinds[at], int(self._people.at_us[at]))

    def links(self, pairs: Collection[Pair], full: Collection[bytes]) -> dict[Pair, dict[str, Any]]:
        """Rows of `link` for the pairs that are one person."""
        ordered = sorted(pairs)
        if not ordered:
            return {}
        i, j = self._positions(ordered)
        compared = compare(self._people, i, j)
        self._discount(compared, i, full)
        weights = weigh(compared, self.model)
        total = self.model.prior + np.sum(list(weights.values()), axis=0)
        linked = np.flatnonzero((total >= self.model.threshold) & ~compared.vetoed)
        return {
            ordered[at]: self._row(ordered[at], at, compared, weights, float(total[at]))
            for at in linked.tolist()
        }

    def apart(self, pairs: Collection[Pair]) -> dict[Pair, dict[str, Any]]:
        """Rows of `link` for the pairs that cannot be one person."""
        ordered = sorted(pairs)
        if not ordered:
            return {}
        compared = compare(self._people, *self._positions(ordered))
        vetoed = np.flatnonzero(compared.vetoed).tolist()
        weights = weigh(compared, self.model)
        total = self.model.prior + np.sum(list(weights.values()), axis=0)
        return {
            ordered[at]: self._row(ordered[at], at, compared, weights, float(total[at]))
            | {"probability": 0.0, "same_wish": False}
            for at in vetoed
        }

    def _discount(self, compared: Compared, i: Positions, full: Collection[bytes]) -> None:
        """An e-mail or a phone number of very many people says nothing about two of them."""
        for name, key, texts in (
            ("email", email_key, self._people.email),
            ("phone", phone_key, self._people.phone),
        ):
            level = compared.levels[name]
            exact = [x for x, text in enumerate(LEVELS[name]) if text.startswith("exact")]
            there = np.flatnonzero(np.isin(level, exact)) if full else ()
            digests = self._vault.match(key(texts[i[at]]) for at in there)
            level[[at for at, each in zip(there, digests, strict=True) if each in full]] = NULL

    def _row(
        self,
        ends: Pair,
        at: int,
        compared: Compared,
        weights: Mapping[str, NDArray[np.float64]],
        total: float,
    ) -> dict[str, Any]:
        told = {
            name: [LEVELS[name][level], round(float(weights[name][at]), 2)]
            for name, levels in compared.levels.items()
            if (level := levels[at]) != NULL
        }
        one, other = (self.wish(who) for who in ends)
        near = abs(one.received_market_us - other.received_market_us) <= WISH_US
        same = (one.market, one.intent) == (other.market, other.intent)
        about = {
            "prior": round(self.model.prior, 2),
            "comparisons": told,
            "model": self.model.about,
        }
        return {
            "a": ends[0],
            "b": ends[1],
            "weight": round(total, 4),
            "probability": float(1 / (1 + 2.0**-total)),
            "same_wish": bool(same and near),
            "explanation": json.dumps(about),
        }

    def _positions(self, pairs: list[Pair]) -> tuple[Positions, Positions]:
        self.open({who for ends in pairs for who in ends})
        ends = np.array([(self._at[one], self._at[other]) for one, other in pairs], np.int64)
        return ends[:, 0], ends[:, 1]

    def open(self, submission_ids: Iterable[str]) -> None:
        """Reads the contacts of stored submissions that were not read yet."""
        unread = sorted(set(submission_ids) - self._at.keys())
        if not unread:
            return
        contacts = submission_contacts(self.connection, self._vault, unread)
        first = len(self._at)
        self._at.update((str(who), first + at) for at, who in enumerate(contacts.index))
        self._people = self._people.joined(identities(contacts))
        self._kinds += _kinds(contacts)


def _kinds(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(frame["market"].tolist(), frame["intent"].tolist(), strict=True))


def _regrouped(
    judge: _Judge, rows: Mapping[Pair, Mapping[str, Any]], dropped: Collection[Pair]
) -> tuple[Regrouped, list[dict[str, Any]]]:
    """What the new links make of the leads, and rows for the pairs that are kept apart."""
    touched = {end for ends in (*rows, *dropped) for end in ends}
    if not touched:
        return Regrouped(), []
    known = store.reached(judge.connection, touched)
    undone = {ends for ends, each in known.items() if each.undone}
    # Known apart from before: a contact that was destroyed since could not say it again.
    strangers = {ends for ends, each in known.items() if each.apart and ends not in dropped}
    links = {
        ends: told_link(each.weight, each.explanation)
        for ends, each in known.items()
        if each.holds and ends not in dropped
    }
    links |= {ends: told_link(row["weight"], row["explanation"]) for ends, row in rows.items()}
    for ends in undone:
        links.pop(ends, None)
    nodes = touched | {end for ends in links for end in ends}
    judge.open(nodes)
    doubtful = {
        ends
        for component in components(nodes, links)
        if len(component) > 2
        for ends in combinations(component, 2)
        if ends not in links and ends not in strangers
    }
    apart = judge.apart(doubtful)
    members = _members(judge, nodes)
    return regroup(members, links, undone | strangers | apart.keys()), list(apart.values())


def _members(judge: _Judge, nodes: Iterable[str]) -> dict[str, Member]:
    stored = store.stored(judge.connection, nodes)
    members = {who: _member(each) for who, each in stored.items()}
    for who in nodes:
        # What a renewed submission says now goes before what is stored of it.
        if who not in members:
            members[who] = Member(judge.wish(who), judge.own_lead[who])
        elif who in judge.own_lead:
            members[who] = replace(members[who], wish=judge.wish(who))
    return members


def _member(each: Stored) -> Member:
    return Member(
        wish=Wish(each.market, each.intent, each.received_market_us),
        own_lead_id=each.own_lead_id or lead_ids(each.source, [each.source_key])[0],
        exists=each.own_lead_id is not None,
        alive=each.own_lead_id is not None and not each.own_merged,
        lead_id=each.lead_id,
    )


def told_link(weight: float, explanation: str) -> Link:
    """A link with its rule: what speaks for it most, in words of at most 60 characters."""
    told = json.loads(explanation)["comparisons"]
    words = [text for (name, level), text in _SPEAKS.items() if told.get(name, [""])[0] == level]
    rule = ", ".join(words[:3])[:_LONGEST_RULE] or "alike"
    return Link(weight, rule)
