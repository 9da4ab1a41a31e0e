"""What the linkage makes of submissions, through plan, save, undo and explain."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import update

from aiqleads.domain import US_PER_DAY
from aiqleads.errors import UnknownName
from aiqleads.ingest import linkage
from aiqleads.ingest.blocking import FULL
from aiqleads.ingest.comparisons import LEVELS, NULL, compare, trained_model
from aiqleads.ingest.identity import identities, name_of, sound, street_of
from aiqleads.ingest.reach import email_of, phone_of
from aiqleads.store.tables import lead as lead_table
from aiqleads.store.transactions import writing

TESTS = Path(__file__).parents[2]
ADA: dict[str, Any] = {
    "market": "toledo",
    "intent": "sell",
    "name": "Ada Reed",
    "email": "ada.reed.7@example.com",
    "phone": "+12905550134",
    "address": "12 North Main Street",
    "unit": None,
    "zip": "43604",
    "utm_x_m": 1000.0,
    "utm_y_m": 2000.0,
    "place_precision": "point",
    "received_market_us": 0,
}
SILENT = {"name": None, "email": None, "phone": None, "address": None, "zip": None}
NOWHERE = {"utm_x_m": np.nan, "utm_y_m": np.nan, "place_precision": "none"}
BOB = {"name": "Bob Vale", "email": "vale88@example.org", "phone": "+12905559876"}
ELSEWHERE = {"address": "900 Oak Avenue", "zip": "43605", "utm_x_m": 9e5}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    made = runpy.run_path(str(TESTS / "linkage_store.py"))["LinkageStore"](tmp_path)
    yield made
    made.close()


def _sent(*rows: dict[str, Any], first: int = 1) -> pd.DataFrame:
    ids = [f"U{n}" for n in range(first, first + len(rows))]
    made = pd.DataFrame([{**ADA, **row} for row in rows], index=ids)
    made.insert(0, "lead_id", [who.replace("U", "L") for who in ids])
    return made


def _people(store: Any) -> list[list[str]]:
    return store.groups(store.person_of())


def _leads(store: Any) -> list[list[str]]:
    return store.groups(store.lead_of())


# --- who is one person -----------------------------------------------------------------


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({}, id="the same again"),
        pytest.param({"email": "Ada.Reed.7+home@EXAMPLE.com", "phone": None}, id="tagged e-mail"),
        pytest.param({"name": "REED, ADA", "phone": "(290) 555-0134"}, id="another source's form"),
        pytest.param({"name": "Reed Ada", "email": "work99@example.org"}, id="swapped names"),
        pytest.param({"name": "Adaa Reed", "phone": "+12905550143"}, id="typos, digits moved"),
        pytest.param({"name": "A. Reed", "email": None}, id="initial"),
        pytest.param({"name": None}, id="no name, the same e-mail and phone"),
        pytest.param({"address": "12 N Main St", "phone": None, **NOWHERE}, id="address in short"),
        pytest.param({**ELSEWHERE, "phone": None}, id="same name and e-mail, another home"),
    ],
)
def test_a_person_who_writes_again_is_one_lead(store: Any, again: dict[str, Any]) -> None:
    store.take(_sent({}, {**again, "received_market_us": US_PER_DAY}))
    assert _leads(store) == [["U1", "U2"]]
    assert _people(store) == [["U1", "U2"]]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(BOB, id="a home sold twice"),
        pytest.param({**BOB, "name": "Otto Reed"}, id="one household"),
        pytest.param(
            {"name": "Otto Reed", "email": "otto41@example.org"}, id="a household with one phone"
        ),
        pytest.param({"name": "Otto Reed", "phone": None}, id="the family's e-mail"),
        pytest.param({"name": "Ada Reed Jr."}, id="a generation apart"),
        pytest.param(
            {**ELSEWHERE, "email": "r5@example.org", "phone": "+12905559999", "name": "Ada Reed"},
            id="a namesake in town",
        ),
        pytest.param(
            {
                **ELSEWHERE,
                "name": None,
                "email": "z11@example.org",
                "received_market_us": 500 * US_PER_DAY,
            },
            id="a recycled phone",
        ),
        pytest.param({**SILENT, **NOWHERE, "email": "q@example.org"}, id="nothing in common"),
    ],
)
def test_somebody_else_is_another_lead(store: Any, other: dict[str, Any]) -> None:
    suffix = {"name": "Ada Reed Sr."} if other.get("name") == "Ada Reed Jr." else {}
    store.take(_sent({**suffix}, {"received_market_us": US_PER_DAY, **other}))
    assert _people(store) == [["U1"], ["U2"]]


def test_a_namesake_in_another_unit_is_another_person(store: Any) -> None:
    other = {"email": "areed@example.org", "phone": "+12905559999", "unit": "9"}
    store.take(_sent({"unit": "4"}, other))
    assert _people(store) == [["U1"], ["U2"]]


def test_a_shared_number_of_fiction_is_no_link_between_strangers(store: Any) -> None:
    store.take(_sent({}, {**BOB, **ELSEWHERE, "phone": ADA["phone"]}))
    assert _people(store) == [["U1"], ["U2"]]


def test_a_place_that_is_no_point_is_no_home(store: Any) -> None:
    middle = {"address": None, "place_precision": "zip"}
    first = {**middle, "name": "Ann Lake", "email": "x1@example.org", "phone": None}
    store.take(_sent(first, {**first, "email": "y2@example.org", "name": "Ann Lake"}))
    assert _people(store) == [["U1"], ["U2"]]


def test_a_submission_without_a_name_does_not_join_a_household(store: Any) -> None:
    family = {"email": "reeds@example.com"}
    store.take(_sent(family, {**family, "name": "Otto Reed"}))
    store.take(_sent({**family, "name": None}, first=3))
    assert _people(store) == [["U1", "U3"], ["U2"]]
    verdicts = {row["verdict"] for row in store.explain("L1")}
    assert verdicts == {"linked", "apart"}


# --- one wish or several ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "leads"),
    [
        ({"received_market_us": 14 * US_PER_DAY}, 1),
        ({"received_market_us": 14 * US_PER_DAY + 1}, 2),
        ({"intent": "buy"}, 2),
        ({"market": "ames"}, 2),
    ],
)
def test_a_wish_is_one_lead_and_another_is_not(
    store: Any, change: dict[str, Any], leads: int
) -> None:
    store.take(_sent({}, change))
    assert len(_leads(store)) == leads
    assert _people(store) == [["U1", "U2"]]
    assert set(store.rows("lead")["person_id"]) == {"L1"}


def test_who_writes_week_after_week_stays_one_lead(store: Any) -> None:
    for week in range(4):
        store.take(_sent({"received_market_us": week * 10 * US_PER_DAY}, first=week + 1))
    lead = store.rows("lead").set_index("lead_id").loc["L1"]
    assert _leads(store) == [["U1", "U2", "U3", "U4"]]
    assert lead["submissions"] == 4


def test_of_new_leads_the_first_received_stays_and_of_stored_ones_the_stored(store: Any) -> None:
    made = store.take(_sent({"received_market_us": 9}, {"received_market_us": 5}))
    assert made.lead_of == {
        "U1": ("L2", "same e-mail, same phone, same first name"),
        "U2": ("L2", ""),
    }
    made = store.take(_sent({"received_market_us": 1}, first=3))
    assert made.lead_of["U3"][0] == "L2"


def test_a_bridge_merges_stored_leads(store: Any) -> None:
    store.take(_sent({"phone": None}))
    other = {"email": None, "address": None, "zip": None, "name": "A. Reed", **NOWHERE}
    store.take(_sent(other, first=2))
    assert len(_leads(store)) == 2
    made = store.take(_sent({}, first=3))
    assert [(loser, winner) for loser, winner, _ in made.merges] == [("L2", "L1")]
    lead = store.rows("lead").set_index("lead_id")
    assert lead.loc["L2", "merged_into"] == "L1"
    assert lead.loc["L1", "submissions"] == 3
    assert _leads(store) == [["U1", "U2", "U3"]]


def test_a_plan_twice_saved_is_as_once_saved(store: Any) -> None:
    made = store.take(_sent({}, {}))
    before = [store.rows(name).to_dict("records") for name in ("lead", "submission", "link")]
    with writing(store.engine) as connection:
        linkage.save(connection, made)
    after = [store.rows(name).to_dict("records") for name in ("lead", "submission", "link")]
    assert after == before


def test_nothing_fresh_changes_nothing(store: Any) -> None:
    made = store.take(_sent({}).iloc[:0])
    assert (made.lead_of, made.links, made.keys) == ({}, [], [])


# --- a submission that says something else now -------------------------------------------


def test_a_renewed_submission_is_linked_by_what_it_says_now(store: Any) -> None:
    store.take(_sent({}, {**BOB, **ELSEWHERE}))
    store.take(_sent({}, first=2))
    assert _people(store) == [["U1", "U2"]]
    store.take(_sent({**BOB, **ELSEWHERE}, first=2))
    assert _people(store) == [["U1"], ["U2"]]
    assert store.rows("link").empty
    assert set(store.rows("lead")["waits"]) == {""}


# --- keys that are full ------------------------------------------------------------------


def _office(count: int) -> list[dict[str, Any]]:
    """People who give one phone number, three by three of a name and town, and no e-mail."""
    towns = {n: {"address": None, "zip": f"{43000 + n}", **NOWHERE} for n in range(count)}
    return [
        {**towns[n // 2], "name": ("Ada Reed", "Eve Lund")[n % 2], "email": None, "unit": str(n)}
        for n in range(count)
    ]


def test_a_phone_of_very_many_speaks_for_nobody(store: Any) -> None:
    people = _office(FULL + 2)
    store.take(_sent(*people[:4]))
    assert _people(store) == [["U1", "U3"], ["U2", "U4"]]
    store.take(_sent(*people[4:], first=5))
    assert len(_people(store)) == FULL + 2
    assert store.rows("link").empty
    assert set(store.rows("lead")["waits"]) == {""}


def test_a_full_key_leaves_what_other_keys_say(store: Any) -> None:
    people = [*_office(FULL + 2), {}, {}]
    store.take(_sent(*people[-2:]))
    store.take(_sent(*people[:-2], first=3))
    assert ["U1", "U2"] in _people(store)


# --- undo and explain --------------------------------------------------------------------


def test_a_link_that_is_taken_back_gives_the_leads_back(store: Any) -> None:
    store.take(_sent({}))
    store.take(_sent({"intent": "buy"}, first=2))
    store.take(_sent({"received_market_us": 7}, first=3))
    store.undo("U3", "U1")
    store.undo("U2", "U3")
    assert _leads(store) == [["U1"], ["U2"], ["U3"]]
    assert _people(store) == [["U1", "U2"], ["U3"]]
    lead = store.rows("lead").set_index("lead_id")
    again = lead.loc[store.lead_of()["U3"]]
    assert set(lead["waits"]) == {""}
    assert lead.loc["L1", "submissions"] == again["submissions"] == 1
    assert again["received_market_us"] == 7


def test_what_was_taken_back_is_not_linked_again(store: Any) -> None:
    store.take(_sent({}, {}))
    store.undo("U1", "U2", now_us=5)
    store.take(_sent({}, {}))
    assert _people(store) == [["U1"], ["U2"]]
    assert store.rows("link")["undone_us"].tolist() == [5]


def test_a_merged_lead_stands_for_itself_again(store: Any) -> None:
    store.take(_sent({"phone": None}))
    other = {"email": None, "address": None, "zip": None, "name": "A. Reed", **NOWHERE}
    store.take(_sent(other, first=2))
    store.take(_sent({}, first=3))
    store.undo("U2", "U3")
    lead = store.rows("lead").set_index("lead_id")
    assert (lead.loc["L2", "waits"], lead.loc["L2", "merged_into"]) == ("", None)
    assert _leads(store) == [["U1", "U3"], ["U2"]]


def test_a_lead_that_may_not_be_sold_still_waits_when_its_merge_is_undone(store: Any) -> None:
    store.take(_sent({"phone": None}))
    other = {"email": None, "address": None, "zip": None, "name": "A. Reed", **NOWHERE}
    store.take(_sent(other, first=2))
    with writing(store.engine) as connection:
        connection.execute(
            update(lead_table).where(lead_table.c.lead_id == "L2").values(waits="analysis only")
        )
    store.take(_sent({}, first=3))
    store.undo("U2", "U3")
    assert store.rows("lead").set_index("lead_id").loc["L2", "waits"] == "analysis only"


def test_only_a_link_can_be_taken_back(store: Any) -> None:
    store.take(_sent({}, BOB))
    with pytest.raises(UnknownName, match="no link"):
        store.undo("U1", "U2")
    with pytest.raises(UnknownName, match="no lead"):
        store.explain("L9")


def test_a_merge_is_explained_by_levels_and_weights_without_a_value(store: Any) -> None:
    store.take(_sent({}, {"phone": "+12905550135", "address": None}))
    [row] = store.explain("L1")
    assert (row["a"], row["b"], row["verdict"]) == ("U1", "U2", "linked")
    assert row["comparisons"]["email"][0] == "exact, at one home"
    weights = [weight for _, weight in row["comparisons"].values()]
    assert row["weight"] == pytest.approx(row["prior"] + sum(weights), abs=0.05)
    assert row["probability"] > 0.95
    told = json.dumps(row).lower()
    assert not any(word in told for word in ("ada", "reed", "example", "290", "main", "43604"))
    rules = store.rows("submission").set_index("submission_id")["rule"]
    assert rules.to_dict() == {"U1": "", "U2": "same e-mail, same first name"}


def test_stored_keys_tell_nothing_of_the_contact(store: Any) -> None:
    store.take(_sent({}))
    digests = store.rows("match_key")["digest"].tolist()
    assert len(digests) == 9
    assert all(len(digest) == 16 for digest in digests)
    assert not any(b"ada" in digest for digest in digests)


# --- reading ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Ada Reed", ("ada", "", "reed", "")),
        ("REED, ADA B.", ("ada", "b", "reed", "")),
        ("Ada Reed, Jr.", ("ada", "", "reed", "jr")),
        ("Dr. Ada B. Reed III", ("ada", "b", "reed", "iii")),
        ("Ada & Tom Reed", ("ada", "", "reed", "")),
        ("Ada Reed and Tom Vale", ("ada", "", "reed", "")),
        ("Ann Smith-Jones", ("ann", "", "smith", "")),
        ("José Núñez", ("jose", "", "nunez", "")),
        ("Ada", ("ada", "", "", "")),
        ("", ("", "", "", "")),
    ],
)
def test_names_are_read_in_every_writing(text: str, parts: tuple[str, ...]) -> None:
    assert tuple(name_of(text)) == parts


@pytest.mark.parametrize(
    ("address", "unit", "parts"),
    [
        ("123 N. Main St Apt 4B, Toledo, OH 43604", "", ("123", "main", "4b")),
        ("123 north main street", "#4B", ("123", "main", "4b")),
        ("9 Broad", "", ("9", "broad", "")),
        ("Oak Hill Road", "", ("", "oak hill", "")),
        ("", "", ("", "", "")),
    ],
)
def test_addresses_are_read_in_every_writing(
    address: str, unit: str, parts: tuple[str, ...]
) -> None:
    assert tuple(street_of(address, unit)) == parts


def test_contacts_are_read_in_every_writing() -> None:
    assert email_of(" Ada+x@Example.COM ") == "ada@example.com"
    assert phone_of("+1 (290) 555-0134") == phone_of("290.555.0134") == "2905550134"
    assert phone_of("555-0134") == ""
    assert sound("robert") == sound("rupert") == "r163"
    assert sound("") == ""


@pytest.mark.parametrize(
    ("one", "other", "level"),
    [
        ("Ada", "Ada", "exact"),
        ("William", "Bill", "short form"),
        ("Adda", "Ada", "similar"),
        ("Wiliam", "Bill", "similar"),
        ("A", "Ada", "initial"),
        ("D", "Richard", "initial"),
        ("Quorten", "Quirtan", "unclear"),
        ("Tim", "Tom", "another"),
        ("B", "Ada", "another"),
        ("Zxyo", "Maria", "another"),
    ],
)
def test_first_names_have_levels(one: str, other: str, level: str) -> None:
    names = [f"{one} Reed", f"{other} Reed"]
    people = identities(_sent({**ELSEWHERE, "name": names[0]}, {"name": names[1]}))
    found = compare(people, np.array([0, 1]), np.array([1, 0])).levels["first"]
    assert [LEVELS["first"][each] for each in found] == [level, level]


def test_a_missing_value_has_no_weight() -> None:
    people = identities(_sent({**SILENT, **NOWHERE}, {}))
    levels = compare(people, np.array([0]), np.array([1])).levels
    assert all(level.tolist() == [NULL] for level in levels.values())


def test_the_model_that_comes_with_the_package_has_every_level() -> None:
    model = trained_model()
    assert {name: len(weights) for name, weights in model.weights.items()} == {
        name: len(labels) for name, labels in LEVELS.items()
    }
    assert model.threshold > 0 > model.prior


def test_on_a_seed_that_no_weight_was_made_with_people_are_told_apart(store: Any) -> None:
    bench = runpy.run_path(str(TESTS / "benchmarks" / "linkage_quality.py"))
    sent = bench["CASES"]["submissions"](3001, 500, 0.5)
    for start in range(0, len(sent), 300):
        store.take(sent.iloc[start : start + 300])
    truth = sent["person"].to_dict()
    ours = bench["measured"](truth, store.person_of())
    exact = bench["measured"](truth, bench["exact_match"](sent))
    assert ours["pairs_precision"] > 0.98 > exact["pairs_precision"]
    assert ours["clusters_precision"] > 0.98 > exact["clusters_precision"]
    assert min(ours["pairs_recall"], ours["clusters_recall"]) > 0.88
