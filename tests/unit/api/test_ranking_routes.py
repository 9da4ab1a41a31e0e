from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aiqleads.store import journal, leads
from aiqleads.store.database import reader
from aiqleads.store.tables import interaction

IsProblem = Callable[[Any, int, str], dict[str, Any]]
DAY_US = 86_400_000_000


def test_a_ranking_says_everything_about_itself(shop: Any) -> None:
    answer = shop.ask("POST", "/v1/recommendations", {"agent_id": "A0003", "k": 7})
    body = answer.json()
    assert answer.status_code == 200
    assert body["model_version"] == shop.state.scorer.version
    assert body["snapshot_version"] == shop.state.snapshot.version
    assert body["variant"] == "champion"
    assert body["as_of"] == "1998-01-01T05:00:00Z"
    assert len(body["items"]) == 7
    for position, item in enumerate(body["items"], start=1):
        assert item["position"] == position
        assert len(item["reasons"]) == 3
        assert set(item["reasons"][0]) == {"feature", "direction", "text"}
        assert 500 <= item["price"]["total_cents"] <= 50_000
        assert item["price"]["currency"] == "USD"
        assert item["available_until"] > body["as_of"]


def test_a_ranking_goes_to_the_journal(shop: Any) -> None:
    body = {
        "agent_id": "A0003",
        "k": 3,
        "filters": {"intent": "sell"},
        "context": {"device": "web"},
    }
    served = shop.ask("POST", "/v1/recommendations", body).json()
    (line,) = journal.read(shop.state.settings.data / "journal")
    assert line["request_id"] == served["request_id"]
    assert line["agent_id"] == "A0003"
    assert line["device"] == "web"
    assert line["filters"] == {"intent": "sell"}
    assert line["at_market_us"] == shop.state.snapshot.manifest.as_of_market_us
    assert [(item["lead_id"], item["score"], item["price_cents"]) for item in line["items"]] == [
        (i["lead_id"], i["score"], i["price"]["total_cents"]) for i in served["items"]
    ]


def test_every_route_quotes_one_price(shop: Any) -> None:
    items = shop.ask("POST", "/v1/recommendations", {"agent_id": "A0003", "k": 5}).json()["items"]
    page = shop.ask("GET", "/v1/leads?limit=100").json()["items"]
    listed = {item["lead_id"]: item["price"]["total_cents"] for item in page}
    for item in items:
        one = shop.ask("GET", f"/v1/leads/{item['lead_id']}").json()
        assert one["price"]["total_cents"] == item["price"]["total_cents"]
        assert one["price"]["lines"]
        assert (
            listed.get(item["lead_id"], item["price"]["total_cents"]) == one["price"]["total_cents"]
        )
    held = shop.hold("A0003", items[0]["lead_id"]).json()
    assert held["total_cents"] == items[0]["price"]["total_cents"]


def test_held_and_sold_leads_are_not_recommended(shop: Any) -> None:
    body = {"agent_id": "A0003", "k": 100}
    lead = shop.lead(max_buyers=1)
    assert shop.hold("A0006", lead).status_code == 201
    shown = {i["lead_id"] for i in shop.ask("POST", "/v1/recommendations", body).json()["items"]}
    assert lead not in shown
    page = shop.ask("GET", "/v1/leads?limit=100").json()["items"]
    flags = {item["lead_id"]: item["available"] for item in page}
    assert flags.get(lead, False) is False


def test_scores_are_bit_identical_to_the_library(shop: Any, serving_world: dict[str, Any]) -> None:
    X = serving_world["feature_rows"](200, np.random.default_rng(5))
    rows = [[None if np.isnan(v) else float(v) for v in row] for row in X]
    answer = shop.ask("POST", "/v1/score", {"rows": rows}, agent=None).json()
    assert answer["scores"] == shop.state.scorer.score(X).tolist()
    assert answer["features"] == list(shop.state.scorer.features)


def test_score_refuses_another_width(shop: Any, is_problem: IsProblem) -> None:
    detail = is_problem(
        shop.ask("POST", "/v1/score", {"rows": [[1.0, 2.0]]}, agent=None), 422, "invalid-input"
    )["detail"]
    assert "row 0 has 2 values" in detail


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", '"x"', "true"])
def test_score_refuses_what_is_no_number(shop: Any, is_problem: IsProblem, number: str) -> None:
    answer = shop.client.post(
        "/v1/score",
        content=f'{{"rows": [[{number}]]}}',
        headers={"Authorization": f"Bearer {shop.key(None)}", "Content-Type": "application/json"},
    )
    is_problem(answer, 422, "invalid-input")


@pytest.mark.parametrize(
    "body",
    [
        {"agent_id": "A0003", "k": 0},
        {"agent_id": "A0003", "k": 101},
        {"agent_id": "A0003", "k": "many"},
        {"agent_id": "A0003", "more": 1},
        {"agent_id": "A0003", "filters": {"color": "red"}},
        {"agent_id": "A0003", "filters": {"min_price_cents": 2, "max_price_cents": 1}},
        {"agent_id": "A0003", "filters": {"property_types": ["castle"]}},
        {"k": 3},
        [],
        None,
    ],
)
def test_bad_requests_are_problems(shop: Any, is_problem: IsProblem, body: Any) -> None:
    is_problem(shop.ask("POST", "/v1/recommendations", body), 422, "invalid-input")


def test_what_was_sent_is_not_echoed(shop: Any, is_problem: IsProblem) -> None:
    secret = "555-0199 is my number"
    answer = shop.ask("POST", "/v1/recommendations", {"agent_id": "A0003", "k": secret})
    is_problem(answer, 422, "invalid-input")
    assert secret not in answer.text


def test_a_page_follows_the_other_without_gap_or_repeat(shop: Any) -> None:
    seen: list[str] = []
    received: list[str] = []
    cursor = ""
    for _ in range(50):
        page = shop.ask("GET", f"/v1/leads?limit=17{cursor}").json()
        seen += [item["lead_id"] for item in page["items"]]
        received += [item["received"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == shop.state.snapshot.manifest.leads
    assert received == sorted(received, reverse=True)


def test_a_search_filters(shop: Any) -> None:
    query = "intent=sell&property_types=house&property_types=condo&min_beds=3"
    items = shop.ask("GET", f"/v1/leads?{query}&max_price_cents=12000000").json()["items"]
    assert items
    for item in items:
        assert item["intent"] == "sell"
        assert item["beds"] >= 3
        assert item["ask_price_about_cents"] <= 12_000_000


def test_a_box_is_about_shown_cells_only(shop: Any, serving_world: dict[str, Any]) -> None:
    h3 = serving_world["h3"]
    box = "-83.56,41.64,-83.53,41.66"
    items = shop.ask("GET", f"/v1/leads?limit=100&bbox={box}").json()["items"]
    assert items
    for item in items:
        lat, lon = h3.cell_to_latlng(int(item["cell"], 16))
        assert -83.56 <= lon <= -83.53
        assert 41.64 <= lat <= 41.66
    assert shop.ask("GET", "/v1/leads?bbox=0,0,1,1").json()["items"] == []


@pytest.mark.parametrize(
    "query",
    [
        "bbox=1,2,3",
        "bbox=3,1,2,4",
        "bbox=a,b,c,d",
        "cursor=zz",
        "cursor=W10=",
        "limit=0",
        "odd=1",
        "cursor=WyJ4IiwxXQ==",
        "limit=101",
        "intent=rent",
    ],
)
def test_bad_searches_are_problems(shop: Any, is_problem: IsProblem, query: str) -> None:
    is_problem(shop.ask("GET", f"/v1/leads?{query}"), 422, "invalid-input")


def test_a_lead_in_a_tiers_window_is_not_there_for_it(shop: Any, is_problem: IsProblem) -> None:
    newest = shop.ask("GET", "/v1/leads?limit=1").json()["items"][0]["lead_id"]
    assert shop.ask("GET", f"/v1/leads/{newest}", agent="A0003").status_code == 200
    is_problem(shop.ask("GET", f"/v1/leads/{newest}", agent="A0001"), 404, "not-found")
    is_problem(shop.hold("A0001", newest), 404, "not-found")
    is_problem(shop.ask("GET", "/v1/leads/L9", agent="A0001"), 404, "not-found")


def test_nobody_but_the_buyer_learns_who_and_where(shop: Any) -> None:
    lead = shop.lead(max_buyers=2)
    facts = shop.state.leads
    person = leads.lead_contact(facts, shop.state.vault, lead)
    place = leads.lead_row(facts, lead)
    shop.top_up("A0003")
    assert shop.buy("A0003", lead).json()["state"] == "paid"
    assert shop.hold("A0006", lead).status_code == 201, "a hold is not a purchase"
    bought = shop.ask("GET", f"/v1/leads/{lead}", agent="A0003").json()
    assert bought["purchased"] is True
    assert bought["contact"]["email"] == person["email"]
    assert bought["contact"]["invented"] is True
    assert (bought["place"]["lon"], bought["place"]["lat"]) == (place["lon"], place["lat"])
    assert bought["facts"]["ask_price_cents"] == place["ask_price_cents"]

    secrets = [person["email"], person["phone"], person["name"], str(place["lon"])[:9]]
    secrets += [format(place["cell"], "x"), str(place["cell"]), str(place["ask_price_cents"])]
    for agent in ("A0006", "A0001", None):
        for answer in (
            shop.ask("GET", f"/v1/leads/{lead}", agent=agent),
            shop.ask("GET", "/v1/leads?limit=100", agent=agent),
            shop.ask("GET", "/v1/cart", agent=agent),
            shop.ask("GET", "/v1/orders", agent=agent),
            shop.ask("POST", "/v1/recommendations", {"agent_id": agent or "A0005"}, agent=agent),
        ):
            for secret in secrets:
                assert secret not in answer.text
    other = shop.ask("GET", f"/v1/leads/{lead}", agent="A0006").json()
    assert (other["purchased"], other["contact"], other["place"], other["facts"]) == (
        False,
        None,
        None,
        None,
    )


def test_a_bought_lead_stays_its_buyers_when_it_is_off_the_market(
    shop: Any, serving_world: dict[str, Any], is_problem: IsProblem
) -> None:
    lead = shop.lead(max_buyers=3)
    shop.top_up("A0003")
    shop.buy("A0003", lead)
    facts = serving_world["_facts"](np.random.default_rng(9), 30)
    facts["lead_id"] = np.array([f"M{i:05d}" for i in range(30)], dtype=np.bytes_)
    serving_world["publish"](shop.state.settings, facts)
    shop.now_us += 2_000_000
    mine = shop.ask("GET", f"/v1/leads/{lead}", agent="A0003").json()
    assert mine["contact"]["email"].endswith("@example.com")
    assert (mine["card"], mine["price"], mine["available"]) == (None, None, False)
    is_problem(shop.ask("GET", f"/v1/leads/{lead}", agent="A0006"), 404, "not-found")


def test_events_are_counted_once_and_on_the_market_clock(shop: Any) -> None:
    lead = shop.lead()
    event = {"event_id": "e1", "lead_id": lead, "request_id": "r_1"}
    batch = {"agent_id": "A0003", "events": [event, {**event, "event_id": "e2"}]}
    assert shop.ask("POST", "/v1/interactions", batch).json() == {"stored": 2, "known": 0}
    batch["events"].append(
        {"event_id": "e3", "lead_id": lead, "kind": "view", "at_us": shop.now_us - DAY_US}
    )
    assert shop.ask("POST", "/v1/interactions", batch).json() == {"stored": 1, "known": 2}
    other = {"agent_id": "A0006", "events": [event]}
    assert shop.ask("POST", "/v1/interactions", other, agent="A0006").json()["stored"] == 1
    with reader(shop.state.commerce).connect() as connection:
        rows = connection.execute(interaction.select().order_by(interaction.c.event_id)).all()
    as_of = shop.state.snapshot.manifest.as_of_market_us
    assert [row.at_market_us - as_of for row in rows] == [0, 0, -DAY_US, 0]
    assert {row.arrived_us for row in rows} == {shop.now_us}


def test_events_that_cannot_be_are_refused(shop: Any, is_problem: IsProblem) -> None:
    good = {"event_id": "e1", "lead_id": shop.lead()}

    def send(**changed: Any) -> Any:
        return shop.ask(
            "POST", "/v1/interactions", {"agent_id": "A0003", "events": [good | changed]}
        )

    is_problem(send(kind="purchase"), 422, "invalid-input")
    is_problem(send(lead_id="L9"), 404, "not-found")
    is_problem(send(at_us=shop.now_us + DAY_US), 422, "invalid-input")
    is_problem(send(at_us=shop.now_us - 15 * DAY_US), 422, "invalid-input")
    is_problem(send(event_id=""), 422, "invalid-input")
    assert send(at_us=shop.now_us + 1_000_000).json()["stored"] == 1


def test_a_new_snapshot_is_served_without_a_restart(
    shop: Any, serving_world: dict[str, Any]
) -> None:
    body = {"agent_id": "A0003", "k": 3}
    before = shop.ask("POST", "/v1/recommendations", body).json()["snapshot_version"]
    facts = serving_world["_facts"](np.random.default_rng(21), 50)
    version = serving_world["publish"](shop.state.settings, facts)
    shop.now_us += 2_000_000
    after = shop.ask("POST", "/v1/recommendations", body).json()
    assert before != after["snapshot_version"] == version


def test_answers_say_what_is_not_real(shop: Any) -> None:
    answer = shop.ask("GET", "/v1/leads?limit=1")
    assert "invented" in answer.headers["X-AIQLeads-Notice"]
    assert "stand-in" in answer.headers["X-AIQLeads-Notice"]
    assert "invented" in answer.json()["notice"]
    assert "stand-in" in shop.ask("GET", "/v1/wallet").json()["payments"]
    assert "stand-in" in json.dumps(shop.client.get("/openapi.json").json()["info"])


@pytest.mark.parametrize("number", [1e39, -1e300, 10**200])
def test_score_refuses_what_its_numbers_do_not_hold(
    shop: Any, is_problem: IsProblem, number: float
) -> None:
    row = [0.0] * (len(shop.state.scorer.features) - 1) + [number]
    refused = is_problem(
        shop.ask("POST", "/v1/score", {"rows": [row]}, agent=None), 422, "invalid-input"
    )
    assert "32-bit" in refused["detail"]


def test_filters_do_not_tell_how_far_a_lead_lies(shop: Any) -> None:
    def count(agent: str | None, **filters: Any) -> tuple[Any, Any]:
        body = {"agent_id": "A0003", "k": 1, "filters": filters}
        answer = shop.ask("POST", "/v1/recommendations", body, agent=agent).json()
        return answer["candidates"], answer["rings"]

    assert all(isinstance(n, int) for n in count("A0003"))
    assert count("A0003", min_beds=3) == (None, None)
    assert all(isinstance(n, int) for n in count(None, min_beds=3))


def test_a_price_and_a_cursor_tell_no_more_than_the_card(
    shop: Any, serving_world: dict[str, Any]
) -> None:
    facts = serving_world["_facts"](np.random.default_rng(3), 60)
    hour_us = 3_600_000_000
    received = (facts["received_market_us"] // hour_us - 30) * hour_us
    for shift_us, quality in ((1, 0.46), (hour_us - 1, 0.54)):
        told = facts | {
            "received_market_us": received + shift_us,
            "quality": np.full(60, quality),
        }
        serving_world["publish"](shop.state.settings, told)
        shop.now_us += 2_000_000
        page = shop.ask("GET", "/v1/leads?limit=20").json()
        one = shop.ask("GET", f"/v1/leads/{page['items'][0]['lead_id']}").json()
        seen = page["items"], page["next_cursor"], one["card"], one["price"]
        if shift_us == 1:
            first = seen
    assert seen == first
