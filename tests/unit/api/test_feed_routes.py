"""The door for pushes: proved, kept sealed before the 202, once; and what follows a recall."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest

from aiqleads.ingest.origin import signature
from aiqleads.settings import Settings
from aiqleads.store import inbox, sources
from aiqleads.store.transactions import writing

IsProblem = Callable[[Any, int, str], dict[str, Any]]
LEAD = {"lead_id": "Te-1", "google_key": "gk", "user_column_data": []}
FEEDS = """
[google_leads]
market = "town"
secret = "gk"

[meta_leads]
market = "town"
secret = "app"
verify_token = "tok"

[linkedin_leads]
market = "town"
secret = "client"

[leads_csv]
market = "town"
secret = "ours"

[adf]
market = "town"

[ihomefinder]
secret = "nowhere"
"""


@pytest.fixture
def door(shop: Any) -> Any:
    """The shop's app over a feed file."""
    shop.state.settings.feeds_file.write_text(FEEDS)
    return shop


def push(door: Any, source: str, body: bytes, **headers: str) -> Any:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return door.client.post(f"/v1/feeds/{source}", content=body, headers=names)


def google(door: Any, **more: Any) -> Any:
    return push(door, "google_leads", json.dumps(LEAD | more).encode())


def kept(door: Any) -> list[inbox.Push]:
    return inbox.waiting(door.state.vault, door.now_us)


def test_a_push_is_kept_as_it_came(door: Any) -> None:
    body = json.dumps(LEAD).encode()
    answer = push(door, "google_leads", body, content_type="application/json")
    assert answer.status_code == 202
    assert answer.json()["status"] == "accepted"
    (found,) = kept(door)
    assert (found.source, found.market, found.body) == ("google_leads", "town", body)
    assert found.delivery == answer.json()["delivery"]
    assert (found.media_type, found.received_us) == ("application/json", door.now_us)


def test_the_same_delivery_again_is_one(door: Any) -> None:
    first, second = google(door).json(), google(door).json()
    assert second == first | {"status": "already-accepted"}
    assert len(kept(door)) == 1


def test_one_name_for_two_bodies_loses_neither(door: Any) -> None:
    google(door)
    assert google(door, gcl_id="x").json()["status"] == "accepted"
    assert len(kept(door)) == 2


def test_after_it_was_parsed_a_delivery_is_still_known(door: Any) -> None:
    google(door)
    inbox.done(door.state.vault, kept(door)[0], "b1", door.now_us)
    assert google(door).json()["status"] == "already-accepted"
    assert kept(door) == []


def test_nothing_is_kept_where_the_room_is_not_written(
    door: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> bool:
        raise OSError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(inbox, "put", broken)
        is_problem(google(door), 500, "internal-error")
    assert google(door).json()["status"] == "accepted"


@pytest.mark.parametrize("source", ["adf", "reso", "nobody", "x" * 40])
def test_a_source_that_is_not_opened_is_404(door: Any, is_problem: IsProblem, source: str) -> None:
    is_problem(push(door, source, b"{}"), 404, "not-found")
    is_problem(door.client.get(f"/v1/feeds/{source}"), 404, "not-found")


def test_without_a_feed_file_every_source_is_closed(shop: Any, is_problem: IsProblem) -> None:
    is_problem(google(shop), 404, "not-found")


@pytest.mark.parametrize("source", ["Meta", "..%2fx", "x" * 41])
def test_what_is_no_name_of_a_source(door: Any, source: str) -> None:
    assert push(door, source, b"{}").status_code in (404, 422)


def test_a_wrong_proof_is_403_and_keeps_nothing(door: Any, is_problem: IsProblem) -> None:
    for source in ("google_leads", "meta_leads", "linkedin_leads", "leads_csv"):
        refused = is_problem(push(door, source, b'{"a": "Nora"}'), 403, "access-denied")
        assert "Nora" not in json.dumps(refused)
    assert kept(door) == []


def test_an_api_key_is_no_proof(door: Any, is_problem: IsProblem) -> None:
    is_problem(door.ask("POST", "/v1/feeds/google_leads", {}, agent=None), 403, "access-denied")


def test_a_source_without_a_market_is_to_be_tried_later(door: Any, is_problem: IsProblem) -> None:
    header = signature("nowhere", b"<x/>", door.now_us)
    answer = push(door, "ihomefinder", b"<x/>", X_AIQLeads_Signature=header)
    assert "no market" in is_problem(answer, 503, "not-ready")["detail"]


def test_an_empty_body_is_no_push(door: Any, is_problem: IsProblem) -> None:
    header = signature("ours", b" \n", door.now_us)
    is_problem(push(door, "leads_csv", b" \n", X_AIQLeads_Signature=header), 422, "invalid-input")


def test_a_body_above_the_limit_is_413(door: Any, is_problem: IsProblem) -> None:
    is_problem(push(door, "google_leads", b" " * (4 * 2**20 + 1)), 413, "body-too-large")


def test_any_bytes_come_through_whole(door: Any) -> None:
    body = bytes(range(256)) * 50
    header = signature("ours", body, door.now_us)
    answer = push(
        door, "leads_csv", body, X_AIQLeads_Signature=header, X_AIQLeads_Delivery="night-1"
    )
    assert answer.json()["delivery"].startswith("night-1:")
    assert kept(door)[0].body == body


def test_a_broken_feed_file_names_no_secret(door: Any) -> None:
    door.state.settings.feeds_file.write_text(FEEDS + '\n[redfin]\nsecret = 5\nproof = "none"\n')
    answer = google(door)
    assert answer.status_code == 503
    assert "gk" not in answer.text


def test_meta_signs_and_confirms(door: Any) -> None:
    body = b'{"object": "page", "entry": []}'
    digest = hmac.new(b"app", body, hashlib.sha256).hexdigest()
    assert push(door, "meta_leads", body, X_Hub_Signature_256=f"sha256={digest}").is_success
    asked = {"hub.mode": "subscribe", "hub.verify_token": "tok", "hub.challenge": "77"}
    answer = door.client.get("/v1/feeds/meta_leads", params=asked)
    assert (answer.status_code, answer.text) == (200, "77")
    assert answer.headers["content-type"].startswith("text/plain")
    asked["hub.verify_token"] = "other"
    assert door.client.get("/v1/feeds/meta_leads", params=asked).status_code == 403


def test_linkedin_signs_and_confirms(door: Any) -> None:
    body = b'{"notificationId": 9}'
    digest = hmac.new(b"client", b"hmacsha256=" + body, hashlib.sha256).hexdigest()
    assert push(door, "linkedin_leads", body, X_LI_Signature=digest).status_code == 202
    code = "890e4665-4dfe-4ab1-b689-ed553bceeed0"
    answer = door.client.get(f"/v1/feeds/linkedin_leads?challengeCode={code}")
    wanted = hmac.new(b"client", code.encode(), hashlib.sha256).hexdigest()
    assert answer.json() == {"challengeCode": code, "challengeResponse": wanted}


def test_pushes_and_their_worker_are_in_the_metrics(door: Any) -> None:
    google(door)
    inbox.beat(door.state.vault, inbox.WORKER, door.now_us)
    door.now_us += 30_000_000
    text = door.client.get("/metrics").text
    assert "\naiqleads_pushes_waiting 1.0" in text
    assert "\naiqleads_pushes_failed 0.0" in text
    assert "\naiqleads_pushes_oldest_age_seconds 30.0" in text
    assert "\naiqleads_worker_heartbeat_age_seconds 30.0" in text
    assert 'aiqleads_pushes_total{source="google_leads",status="accepted"}' in text


def test_a_worker_that_never_ran_is_infinitely_old(shop: Any) -> None:
    text = shop.client.get("/metrics").text
    assert "\naiqleads_worker_heartbeat_age_seconds +Inf" in text
    assert "\naiqleads_pushes_oldest_age_seconds 0.0" in text


# --- what may not be sold ----------------------------------------------------------


def pause(settings: Settings, shop: Any) -> None:
    with writing(shop.state.leads) as connection:
        sources.pause(connection, "synthetic", "bad phones", shop.now_us)


def test_a_lead_of_a_paused_source_cannot_be_held(
    shop: Any, is_problem: IsProblem, served: Settings
) -> None:
    lead = shop.lead()
    pause(served, shop)
    refused = is_problem(shop.hold("A0003", lead), 409, "lead-withheld")
    assert refused["lead_id"] == lead
    with writing(shop.state.leads) as connection:
        sources.resume(connection, "synthetic", shop.now_us)
    assert shop.hold("A0003", lead).status_code == 201


def test_best_effort_does_without_the_withheld(
    shop: Any, is_problem: IsProblem, served: Settings
) -> None:
    from sqlalchemy import insert, update

    from aiqleads.store.tables import batch
    from aiqleads.store.tables import lead as lead_table

    good, bad = shop.lead(1), shop.lead(2)
    with writing(shop.state.leads) as connection:
        row = connection.execute(batch.select()).mappings().one()
        connection.execute(insert(batch), {**row, "batch_id": "b2", "recalled_us": 1})
        moved = update(lead_table).where(lead_table.c.lead_id == bad)
        connection.execute(moved.values(batch_id="b2"))
    answer = shop.hold("A0003", good, bad, mode="best_effort").json()
    assert [item["lead_id"] for item in answer["items"]] == [good]
    assert [(one["lead_id"], one["kind"]) for one in answer["refused"]] == [(bad, "lead-withheld")]
    is_problem(shop.hold("A0003", bad, mode="best_effort"), 409, "lead-withheld")


def test_what_was_held_before_cannot_be_checked_out_after(
    shop: Any, is_problem: IsProblem, served: Settings
) -> None:
    shop.top_up("A0003")
    hold = shop.hold("A0003", shop.lead()).json()["hold_id"]
    other = shop.hold("A0003", shop.lead(2)).json()["hold_id"]
    pause(served, shop)
    for held in (hold, other):
        body = {"hold_ids": [held]}
        is_problem(shop.ask("POST", "/v1/checkout", body), 409, "lead-withheld")
    assert shop.ask("DELETE", f"/v1/cart/holds/{hold}").status_code == 200
