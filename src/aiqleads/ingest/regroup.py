"""From links to leads: which lead each submission belongs to, and which leads are one person."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from aiqleads.ingest.clusters import Pair, Wish, pair, people, wishes


@dataclass(frozen=True)
class Member:
    """A submission of a component, stored or fresh.

    own_lead_id: the lead that it makes or made; exists: whether that one is stored;
    alive: and stands for itself. lead_id: where the submission is now, '' for a fresh one.
    """

    wish: Wish
    own_lead_id: str
    exists: bool = False
    alive: bool = False
    lead_id: str = ""


@dataclass(frozen=True)
class Link:
    """Why two submissions are one person: weight (log2 odds) and the rule in words."""

    weight: float
    rule: str


@dataclass(frozen=True)
class Regrouped:
    """What becomes of the leads of some components; see `linkage.Plan`."""

    lead_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    person_of: dict[str, str] = field(default_factory=dict)
    merges: list[tuple[str, str, str]] = field(default_factory=list)
    moves: list[tuple[str, str, str]] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    split: dict[str, str] = field(default_factory=dict)


def regroup(
    members: Mapping[str, Member], links: Mapping[Pair, Link], apart: Collection[Pair]
) -> Regrouped:
    """Leads and people of whole components; members by submission."""
    made = Regrouped()
    weights = {ends: link.weight for ends, link in links.items()}
    for person in people(members, weights, apart):
        groups = wishes(person, {node: members[node].wish for node in person})
        firsts = [min(group, key=lambda node: _rank(members[node])) for group in groups]
        person_id = min(_age(members[node]) for node in firsts)[1]
        rules = _rules(person, links)
        for first, group in zip(firsts, groups, strict=True):
            _group(made, members, first, group, rules)
            made.person_of.update((members[node].own_lead_id, person_id) for node in group)
    return made


def _age(member: Member) -> tuple[int, str]:
    return member.wish.received_market_us, member.own_lead_id


def _rank(member: Member) -> tuple[bool, bool, int, str]:
    """Leads that stand come first, then stored ones, then by age."""
    return not member.alive, not member.exists, *_age(member)


def _rules(person: list[str], links: Mapping[Pair, Link]) -> dict[str, str]:
    """The rule of each submission's heaviest link to another of the person."""
    if len(person) == 1:
        return {}
    best: dict[str, Link] = {}
    for at, one in enumerate(person):
        for other in person[at + 1 :]:
            link = links.get(pair(one, other))
            for node in (one, other) if link else ():
                if link and (node not in best or link.weight > best[node].weight):
                    best[node] = link
    return {node: link.rule for node, link in best.items()}


def _group(
    made: Regrouped,
    members: Mapping[str, Member],
    first: str,
    group: list[str],
    rules: Mapping[str, str],
) -> None:
    """Adds what one wish changes; first: the submission whose lead the group is."""
    lead_id = members[first].own_lead_id
    if members[first].exists and not members[first].alive:
        made.revived.append(lead_id)
    elif members[first].lead_id and not members[first].exists:
        made.split[lead_id] = first
    for node in group:
        member = members[node]
        rule = "" if node == first else rules.get(node, "")
        made.lead_of[node] = (lead_id, rule)
        if member.lead_id and member.lead_id != lead_id:
            made.moves.append((node, lead_id, rule))
        if node != first and member.exists and (member.alive or member.lead_id != lead_id):
            made.merges.append((member.own_lead_id, lead_id, rule))
