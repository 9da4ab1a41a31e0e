"""What clients of the shop were told, and whether all of it can be true at once.

The judge reads no table. It has the answers alone, with the time that each client gave (the
shop's clock, us) and with when its call began and returned (one clock of the machine, ns). It
accuses only where no order of the calls explains the answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Grant:
    """A lead that a client was told it holds; times of the shop in us, of the calls in ns."""

    lead_id: str
    slot: int
    token: int
    agent_id: str
    exclusive: bool
    asked_us: int
    granted_us: int
    until_us: int
    began_ns: int
    done_ns: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.lead_id, self.slot, self.token


@dataclass(frozen=True, slots=True)
class End:
    """A hold that a client was told is given back (`released`) or that it bought (`sold`)."""

    key: tuple[str, int, int]
    agent_id: str
    how: str
    at_us: int
    began_ns: int
    done_ns: int
    order_id: str = ""


@dataclass
class Told:
    """Answers that changed something."""

    grants: list[Grant] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)

    def __iadd__(self, other: Told) -> Told:
        self.grants += other.grants
        self.ends += other.ends
        return self

    @property
    def sold(self) -> list[End]:
        return [end for end in self.ends if end.how == "sold"]


def judge(told: Told, buyers: Mapping[str, int]) -> dict[str, list[str]]:
    """Double holds, double sales and other contradictions, each with its offenders.

    buyers: how many agents may have each lead.
    """
    grants: dict[str, list[Grant]] = defaultdict(list)
    for grant in told.grants:
        grants[grant.lead_id].append(grant)
    ends: dict[tuple[str, int, int], list[End]] = defaultdict(list)
    for end in _once(told.ends):
        ends[end.key].append(end)
    return {
        "double_holds": [
            offence
            for lead_id, of_lead in grants.items()
            for slot in range(1, buyers[lead_id] + 1)
            for offence in _overlaps([g for g in of_lead if g.exclusive or g.slot == slot], ends)
        ]
        + [
            f"two holds of {agent_id} on {lead_id}"
            for lead_id, of_lead in grants.items()
            for agent_id in _held_twice(of_lead, ends)
        ],
        "double_sales": list(_oversold(grants, ends, buyers)),
        "contradictions": list(_contradictions(told, grants, ends, buyers)),
    }


def _once(ends: Iterable[End]) -> list[End]:
    """Ends without the releases that were told again: whoever asks is told what is given back
    by now, so it was one of the calls that did it."""
    sold = [end for end in ends if end.how != "released"]
    released: dict[tuple[str, int, int], End] = {}
    for end in ends:
        if end.how == "released":
            known = released.get(end.key, end)
            released[end.key] = replace(
                end,
                at_us=min(known.at_us, end.at_us),
                began_ns=min(known.began_ns, end.began_ns),
                done_ns=max(known.done_ns, end.done_ns),
            )
    return [*sold, *released.values()]


def _overlaps(grants: list[Grant], ends: Mapping[tuple[str, int, int], list[End]]) -> list[str]:
    """Of one slot: each grant must come after the end of the one before it."""
    found = []
    grants.sort(key=lambda grant: grant.token)
    for one, two in pairwise(grants):
        where = f"{one.key}, then token {two.token}"
        if one.token == two.token:
            found.append(f"{where}: granted twice")
        elif two.done_ns < one.began_ns:
            found.append(f"{where}: tokens against time")
        elif not _was_over(one, two, ends.get(one.key, [])):
            found.append(f"{where}: granted while it was held")
    return found


def _was_over(one: Grant, two: Grant, ends: Sequence[End]) -> bool:
    """Whether the first of two grants can have ended before the second."""
    if any(end.how == "sold" for end in ends):
        return False
    for end in ends:
        return end.began_ns < two.done_ns and two.granted_us >= end.at_us
    return two.asked_us >= one.until_us and two.granted_us >= one.until_us


def _held_twice(grants: list[Grant], ends: Mapping[tuple[str, int, int], list[End]]) -> list[str]:
    """Agents that certainly held two slots of one lead at a time."""
    found = []
    by_agent: dict[str, list[Grant]] = defaultdict(list)
    for grant in grants:
        by_agent[grant.agent_id].append(grant)
    for agent_id, mine in by_agent.items():
        mine.sort(key=lambda grant: grant.done_ns)
        for one, two in pairwise(mine):
            over = ends.get(one.key, [])
            if any(end.how == "sold" and end.done_ns < two.began_ns for end in over):
                found.append(agent_id)  # what is bought stays
            # A client whose clock was ahead may have found it expired, and taken it.
            lost = any(
                grant.slot == one.slot and grant.token > one.token and grant.began_ns < two.done_ns
                for grant in grants
            )
            given_back = any(end.began_ns < two.done_ns for end in over)
            at_once = one.granted_us <= two.granted_us < one.until_us
            if at_once and not lost and not given_back:
                found.append(agent_id)
    return found


def _oversold(
    grants: Mapping[str, list[Grant]],
    ends: Mapping[tuple[str, int, int], list[End]],
    buyers: Mapping[str, int],
) -> Iterable[str]:
    sales: dict[str, list[End]] = defaultdict(list)
    for key, of_hold in ends.items():
        sales[key[0]] += [end for end in of_hold if end.how == "sold"]
    for lead_id, sold in sales.items():
        if len(sold) > buyers[lead_id]:
            yield f"{lead_id}: {len(sold)} sales, {buyers[lead_id]} slots"
        slots = Counter(end.key[1] for end in sold)
        yield from (f"{lead_id}/{slot}: sold twice" for slot, n in slots.items() if n > 1)
        agents = Counter(end.agent_id for end in sold)
        yield from (f"{lead_id}: sold twice to {who}" for who, n in agents.items() if n > 1)
        alone = {grant.key for grant in grants.get(lead_id, []) if grant.exclusive}
        if len(sold) > 1 and any(end.key in alone for end in sold):
            yield f"{lead_id}: sold beside an exclusive sale"


def _contradictions(
    told: Told,
    grants: Mapping[str, list[Grant]],
    ends: Mapping[tuple[str, int, int], list[End]],
    buyers: Mapping[str, int],
) -> Iterable[str]:
    held = {grant.key: grant for of_lead in grants.values() for grant in of_lead}
    for grant in told.grants:
        if not 1 <= grant.slot <= buyers[grant.lead_id]:
            yield f"{grant.key}: no such slot"
        if grant.granted_us >= grant.until_us:
            yield f"{grant.key}: over when it was granted"
    for key, of_hold in ends.items():
        if len(of_hold) > 1:
            yield f"{key}: ended {len(of_hold)} times"
        for end in of_hold:
            grant = held.get(key)
            if grant is None or grant.agent_id != end.agent_id:
                yield f"{key}: {end.how} by {end.agent_id}, who did not hold it"
            elif end.at_us >= grant.until_us:
                yield f"{key}: {end.how} after its time"


def most_at_once(spans: Iterable[tuple[int, int]]) -> int:
    """How many of these (from, until) spans certainly overlap at some moment."""
    steps = sorted(step for start, end in spans if start < end for step in ((start, 1), (end, -1)))
    most = now = 0
    for _, change in steps:
        now += change
        most = max(most, now)
    return most
