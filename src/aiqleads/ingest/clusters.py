"""Who is one person, and what is one wish: clusters of linked submissions.

People are the connected components of the links, but for one guard: two submissions that
are known to be apart (unlike first names, Jr and Sr, a link that somebody took back) never
come into one cluster, over however many others they are connected. Without it a
submission that leaves the first name out would join a household into one person. Where a
component holds such a pair, its links are taken heaviest first (equal ones by their ids),
and one that would bring the two together is left out.

The answer depends on a component's links and apart pairs alone: not on the order in which
submissions came, nor on how they were divided into batches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from aiqleads.domain import US_PER_DAY

#: who writes again within this is about the same wish
WISH_US = 14 * US_PER_DAY

Pair = tuple[str, str]


def pair(one: str, other: str) -> Pair:
    """Two ids in their one order."""
    return (one, other) if one < other else (other, one)


@dataclass(frozen=True)
class Wish:
    """What tells wishes of one person apart."""

    market: str
    intent: str
    received_market_us: int


class _Groups:
    """Sets that only grow together (union-find)."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self._parent = {node: node for node in nodes}

    def root(self, node: str) -> str:
        parent = self._parent
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    def join(self, one: str, other: str) -> None:
        self._parent[self.root(other)] = self.root(one)

    def listed(self) -> list[list[str]]:
        made: dict[str, list[str]] = defaultdict(list)
        for node in sorted(self._parent):
            made[self.root(node)].append(node)
        return sorted(made.values())


def components(nodes: Collection[str], links: Iterable[Pair]) -> list[list[str]]:
    """Connected components, each sorted, sorted by their first."""
    groups = _Groups(nodes)
    for one, other in links:
        groups.join(one, other)
    return groups.listed()


def people(
    nodes: Collection[str], links: Mapping[Pair, float], apart: Collection[Pair]
) -> list[list[str]]:
    """Clusters of submissions, one a person, each sorted, sorted by their first.

    links: pair -> weight. apart: pairs that must not be in one cluster.
    """
    if not apart:
        return components(nodes, links)
    groups = _Groups(nodes)
    strangers: dict[str, set[str]] = defaultdict(set)  # by root of either
    for one, other in apart:
        strangers[one].add(other)
        strangers[other].add(one)
    for (one, other), _ in sorted(links.items(), key=lambda each: (-each[1], each[0])):
        here, there = groups.root(one), groups.root(other)
        if here == there or there in {groups.root(each) for each in strangers[here]}:
            continue
        groups.join(here, there)
        strangers[here] |= strangers.pop(there, set())
    return groups.listed()


def wishes(person: Iterable[str], about: Mapping[str, Wish]) -> list[list[str]]:
    """A person's submissions by wish: same market and intent, none WISH_US after the last.

    Each sorted by time, then id.
    """
    by_kind: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node in person:
        by_kind[about[node].market, about[node].intent].append(node)
    made: list[list[str]] = []
    for _, nodes in sorted(by_kind.items()):
        nodes.sort(key=lambda node: (about[node].received_market_us, node))
        last: int | None = None
        for node in nodes:
            at_us = about[node].received_market_us
            if last is None or at_us - last > WISH_US:
                made.append([])
            made[-1].append(node)
            last = at_us
    return made
