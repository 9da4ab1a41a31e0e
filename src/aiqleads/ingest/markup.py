"""Finds the one home that a web page offers in the data that the page carries for machines.

Data comes as JSON-LD blocks and as microdata in the vocabulary of schema.org; a page may
carry many blocks: breadcrumbs, the broker, other homes nearby, a sign that is for sale.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Node = dict[str, Any]

_HOMES = frozenset(
    {
        "Accommodation",
        "Apartment",
        "Condominium",
        "House",
        "Residence",
        "SingleFamilyResidence",
        "Townhouse",
    }
)
_OFFERED = _HOMES | {"RealEstateListing", "Product", "IndividualProduct", "Offer"}
#: what a home has and a yard sign has not
_TRAITS = ("address", "geo", "numberOfBedrooms", "numberOfRooms", "floorSize")
#: from a page to its home and to what is asked for it
_PARTS = ("mainEntity", "about", "itemOffered", "offers", "containedInPlace")
#: to other things than the page is about
_ELSEWHERE = frozenset(
    {
        "itemListElement",
        "isRelatedTo",
        "isSimilarTo",
        "containsPlace",
        "review",
        "publisher",
        "author",
    }
)
#: comments in which pages hide scripts from browsers of the last century
_OPENINGS = ("<!--", "//", "/*", "<![CDATA[", "*/")
_CLOSINGS = ("-->", "]]>", "//", "/*", "*/", ";")
#: a string (an open one to its end) or a comma before a closing bracket
_STRING_OR_COMMA = re.compile(r'"(?:\\.|[^"\\])*+"?|,(?=\s*[}\]])', re.DOTALL)
#: things and parts that are looked at: a page of one home has a few
_MOST = 60
_DEEPEST = 50
_MOST_PROPERTIES = 2_000
#: elements of microdata -> the attribute that holds their value
_VALUE_IN = {
    "a": "href",
    "area": "href",
    "link": "href",
    "img": "src",
    "object": "data",
    "data": "value",
    "meter": "value",
    "time": "datetime",
}


@dataclass(frozen=True)
class Page:
    """A page's own address (None where it states none) and its scripts: id, type, text.

    root: its lxml tree; None for a page without any element.
    """

    url: str | None
    scripts: tuple[tuple[str, str, str], ...]
    root: Any


def read_page(source: str) -> Page:
    """Reads HTML, however broken; a page without any element has no scripts."""
    from lxml import etree
    from lxml import html as lxml_html

    # Bytes, as lxml refuses a text that names an encoding of its own.
    body = source.encode("utf-8", "replace")
    try:
        root = lxml_html.document_fromstring(body, lxml_html.HTMLParser(encoding="utf-8"))
    except etree.LxmlError:
        return Page(None, (), None)
    own = root.xpath("//link[@rel='canonical']/@href | //meta[@property='og:url']/@content")
    scripts = tuple(
        (each.get("id", ""), each.get("type", "").split(";")[0].strip().lower(), each.text or "")
        for each in root.iter("script")
    )
    return Page(str(own[0]).strip() if own else None, scripts, root)


def read_json(script: str) -> Any:
    """JSON as pages write it: wrapped in comments, escaped for HTML, with commas too many.

    None where it is none.
    """
    plain = _unwrapped(script)
    for attempt in (plain, _STRING_OR_COMMA.sub(_without_comma, plain), html.unescape(plain)):
        try:
            return json.loads(attempt, strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def _unwrapped(script: str) -> str:
    plain, before = script.strip(), ""
    while plain != before:
        before = plain
        for opening in _OPENINGS:
            plain = plain.removeprefix(opening).lstrip()
        for closing in _CLOSINGS:
            plain = plain.removesuffix(closing).rstrip()
    return plain


def _without_comma(match: re.Match[str]) -> str:
    return "" if match[0] == "," else match[0]


def linked_data(page: Page) -> list[Node]:
    """Things of the page's JSON-LD blocks, broken ones left out; of microdata if there is none."""
    blocks = [read_json(text) for _, kind, text in page.scripts if kind == "application/ld+json"]
    found = [each for block in blocks for each in _things(_named(block, 0))]
    return found or _microdata(page)


def _microdata(page: Page) -> list[Node]:
    """Things of the page's microdata in the shape of JSON-LD; `itemref` is not followed."""
    if page.root is None:
        return []
    tops: list[Node] = []
    items: dict[Any, Node | None] = {}
    left = _MOST_PROPERTIES
    for element in page.root.iter("*"):
        parent = element.getparent()
        holder = items.get(parent)
        names = (element.get("itemprop") or "").split()
        value: Any = None
        if element.get("itemscope") is not None:
            value = {"@type": (element.get("itemtype") or "").split()}
            if holder is None or not names:
                tops.append(value)
        elif names and holder is not None:
            value = _written(element)
        if holder is not None:
            for name in names:
                holder.setdefault(name, []).append(value)
                left -= 1
        # What lies in an item belongs to it, until another item begins.
        items[element] = value if isinstance(value, dict) else holder
        if left < 0:
            break
    return [thing for each in tops for thing in _things(_named(each, 0))]


def _written(element: Any) -> str:
    """What a property says: in the attribute that its element has for it, else as text."""
    attribute = _VALUE_IN.get(element.tag, "content")
    said = element.get(attribute) or element.get("content")
    return str(said if said is not None else element.text_content()).strip()


def _local(name: object) -> str:
    """'SingleFamilyResidence' of 'https://schema.org/SingleFamilyResidence' and 'schema:..'."""
    return re.split(r"[/#:]", str(name))[-1]


def _named(value: Any, depth: int) -> Any:
    """The same tree with plain names of types and properties; what lies too deep is cut."""
    if depth > _DEEPEST:
        return None
    if isinstance(value, list):
        return [_named(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    node = {
        name if name.startswith("@") else _local(name): _named(each, depth + 1)
        for name, each in value.items()
    }
    if "@value" in node:
        return node["@value"]
    types = node.get("@type", [])
    node["@type"] = [_local(each) for each in (types if isinstance(types, list) else [types])]
    return node


def _things(value: Any) -> Iterator[Node]:
    """Every object of a tree, outer ones first, without those that lie elsewhere."""
    if isinstance(value, list):
        for each in value:
            yield from _things(each)
    elif isinstance(value, dict):
        yield value
        for name, each in value.items():
            if name not in _ELSEWHERE:
                yield from _things(each)


def same_address(url: object) -> str:
    """An address without scheme, query and trailing slash, to compare two by; '' for none."""
    try:
        parts = urlsplit(str(url))
    except ValueError:  # brackets that hold no IPv6 address
        return ""
    return f"{parts.netloc.lower().removeprefix('www.')}{parts.path.rstrip('/')}".lower()


def _url_of(node: Node) -> str:
    """Path of the address that a thing gives itself; '' for none."""
    for name in ("url", "mainEntityOfPage", "@id"):
        for value in _listed(node.get(name)):
            url = value.get("@id") if isinstance(value, dict) else value
            if isinstance(url, str) and url.startswith(("http", "/")):
                return url.split("#")[0]
    return ""


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def offered_home(nodes: list[Node], own: str | None) -> list[Node]:
    """The things that together describe the home a page offers, most telling first.

    Empty where the page offers none, or several without saying which is its own.
    own: the page's address.
    """
    by_id = {
        node["@id"]: node
        for node in nodes
        if isinstance(node.get("@id"), str) and not _refers(node)
    }
    wanted = [node for node in nodes if _OFFERED.intersection(node["@type"])][:_MOST]
    views = [_view(node, by_id) for node in wanted]
    inner = {id(part) for view in views for part in view[1:]}
    outer = [view for view in views if id(view[0]) not in inner]
    alone = [view for view in outer if _is_home(view) and not _url_of(view[0])]
    groups: dict[str, list[Node]] = {}
    for view in outer:
        url = _url_of(view[0])
        if not url and own and alone == [view]:
            url = own
        name = (same_address(url) if url else "") or f"#{id(view[0])}"
        groups.setdefault(name, []).extend(view)
    homes = {name: group for name, group in groups.items() if _is_home(group)}
    here = same_address(own) if own else ""
    for name, group in homes.items():
        if here and (name == here or (here.endswith(name) and name.startswith("/"))):
            return group
    asked = [group for group in homes.values() if found(group, "price") is not None]
    for choice in (list(homes.values()), asked):
        if len(choice) == 1:
            return choice[0]
    return []


def _view(node: Node, by_id: dict[str, Node]) -> list[Node]:
    """A thing and the parts of it that tell of the home or the offer."""
    view, open_ = {id(node): node}, [node]
    while open_ and len(view) < _MOST:
        each = open_.pop()
        parts = [part for name in _PARTS for part in _listed(each.get(name))]
        for part in parts:
            name = part.get("@id") if isinstance(part, dict) else part
            known = isinstance(part, dict) and not _refers(part)
            thing = part if known else by_id.get(str(name))
            if thing is not None and id(thing) not in view:
                view[id(thing)] = thing
                open_.append(thing)
    return list(view.values())


def _refers(node: Node) -> bool:
    """Whether a thing only names another one."""
    return "@id" in node and node.keys() <= {"@id", "@type"}


def _is_home(view: list[Node]) -> bool:
    traits = any(node.get(name) for node in view for name in _TRAITS)
    return traits and any(_OFFERED.intersection(node["@type"]) for node in view)


def found(view: list[Node], *names: str) -> Any:
    """The first plain value of any of these properties; of a quantity its value."""
    for name in names:
        for node in view:
            for value in _listed(node.get(name)):
                plain = value.get("value", value.get("name")) if isinstance(value, dict) else value
                if plain is not None and plain != "" and not isinstance(plain, dict | list):
                    return plain
    return None


def nested(view: list[Node], name: str) -> Node:
    """The first object at a property; empty where there is none."""
    for node in view:
        for value in _listed(node.get(name)):
            if isinstance(value, dict):
                return value
    return {}


def home_types(view: list[Node]) -> list[str]:
    """Types of the home itself, such as 'SingleFamilyResidence'."""
    return [kind for node in view for kind in node.get("@type", []) if kind in _HOMES]
