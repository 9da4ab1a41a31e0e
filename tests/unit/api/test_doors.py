"""Keys, scopes, errors of the framework, the OpenAPI document, metrics: what all routes share."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.routing import APIRoute

from aiqleads.api.edge import BODY_LIMIT_BYTES
from aiqleads.store import agents

IsProblem = Callable[[Any, int, str], dict[str, Any]]

#: every route, with the scope that it asks for
ROUTES = {
    ("POST", "/v1/score"): "ops",
    ("POST", "/v1/recommendations"): "leads:read",
    ("POST", "/v1/interactions"): "events:write",
    ("GET", "/v1/leads"): "leads:read",
    ("GET", "/v1/leads/{lead_id}"): "leads:read",
    ("GET", "/v1/leads.csv"): "leads:read",
    ("GET", "/v1/delivery"): "orders:read",
    ("PUT", "/v1/delivery"): "delivery:write",
    ("DELETE", "/v1/delivery"): "delivery:write",
    ("POST", "/v1/delivery/test"): "delivery:write",
    ("GET", "/v1/deliveries"): "orders:read",
    ("POST", "/v1/deliveries/{delivery_id}/retry"): "delivery:write",
    ("POST", "/v1/cart/holds"): "cart:write",
    ("GET", "/v1/cart"): "cart:write",
    ("DELETE", "/v1/cart/holds/{hold_id}"): "cart:write",
    ("POST", "/v1/checkout"): "cart:write",
    ("GET", "/v1/orders"): "orders:read",
    ("GET", "/v1/orders.csv"): "orders:read",
    ("GET", "/v1/orders/{order_id}"): "orders:read",
    ("GET", "/v1/orders/{order_id}/receipt"): "orders:read",
    ("GET", "/v1/orders/{order_id}/returns"): "orders:read",
    ("POST", "/v1/orders/{order_id}/returns"): "cart:write",
    ("GET", "/v1/spend"): "orders:read",
    ("GET", "/v1/notices"): "orders:read",
    ("GET", "/v1/limits"): "orders:read",
    ("PUT", "/v1/limits"): "wallet:write",
    ("GET", "/v1/wallet"): "orders:read",
    ("POST", "/v1/wallet/topups"): "wallet:write",
    ("PATCH", "/v1/cart/holds/{hold_id}"): "cart:write",
    ("POST", "/v1/orders/{order_id}/refunds"): "ops",
    ("GET", "/v1/orders/{order_id}/refunds"): "orders:read",
    ("GET", "/v1/wallet/auto-recharge"): "orders:read",
    ("PUT", "/v1/wallet/auto-recharge"): "wallet:write",
    ("DELETE", "/v1/wallet/auto-recharge"): "wallet:write",
    ("GET", "/v1/members"): "wallet:write",
    ("POST", "/v1/members"): "wallet:write",
    ("DELETE", "/v1/members/{member_id}"): "wallet:write",
    ("GET", "/v1/licences"): "orders:read",
    ("GET", "/v1/admin/agents/{agent_id}/licences"): "ops",
    ("PUT", "/v1/admin/agents/{agent_id}/licences"): "ops",
    ("GET", "/v1/audit"): "wallet:write",
    ("GET", "/v1/admin/audit"): "ops",
    ("GET", "/v1/admin/disputes"): "ops",
    ("GET", "/v1/admin/margins"): "ops",
    ("POST", "/v1/admin/orders/{order_id}/write-off"): "ops",
    ("POST", "/v1/admin/reconcile"): "ops",
    ("GET", "/v1/contacts"): "cart:write",
    ("PUT", "/v1/contacts"): "cart:write",
    ("DELETE", "/v1/contacts"): "cart:write",
    ("GET", "/v1/admin/suppressions"): "ops",
    ("POST", "/v1/admin/suppressions"): "ops",
    ("DELETE", "/v1/admin/suppressions"): "ops",
    ("POST", "/v1/admin/consents/revoke"): "ops",
    ("GET", "/v1/admin/invariants"): "ops",
    ("GET", "/v1/admin/returns"): "ops",
    ("POST", "/v1/admin/returns/{return_id}"): "ops",
    ("GET", "/v1/admin/process"): "ops",
    # Public: probes, metrics and the document hold nothing private; Stripe and the sources of
    # feeds prove by signature or secret who they are.
    ("POST", "/v1/stripe/webhook"): None,
    ("POST", "/v1/feeds/{source}"): None,
    ("GET", "/v1/feeds/{source}"): None,
    ("GET", "/metrics"): None,
    ("GET", "/openapi.json"): None,
    ("GET", "/livez"): None,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}
BODIES: dict[str, Any] = {
    "/v1/score": {"rows": [[1.0]]},
    "/v1/recommendations": {"agent_id": "A0003"},
    "/v1/interactions": {"agent_id": "A0003", "events": [{"event_id": "e", "lead_id": "L00001"}]},
    "/v1/cart/holds": {"lead_ids": ["L00001"]},
    "/v1/checkout": {"hold_ids": ["hld_1"]},
    "/v1/orders/{order_id}/returns": {"lead_id": "L00001", "reason": "duplicate", "evidence": "x"},
    "/v1/admin/returns/{return_id}": {"credit": True, "note": "x"},
    "/v1/limits": {},
    "/v1/cart/holds/{hold_id}": {"hours": 24},
    "/v1/orders/{order_id}/refunds": {"reason": "x"},
    "/v1/members": {"name": "Jo", "role": "buyer"},
    "/v1/admin/agents/{agent_id}/licences": {"licences": []},
    "/v1/wallet/auto-recharge": {
        "below_cents": 1_000,
        "amount_cents": 5_000,
        "daily_most_cents": 5_000,
        "payment_method": "pm_card_visa",
    },
    "/v1/contacts": {"contacts": ["ada@example.com"]},
    "/v1/admin/suppressions": {"contacts": ["ada@example.com"], "reason": "asked"},
    "/v1/admin/consents/revoke": {"lead_id": "L00001", "reason": "asked"},
    "/v1/delivery": {"channel": "csv"},
    "/v1/wallet/topups": {"amount_cents": 1000, "payment_method": "pm_card_visa"},
}
GUARDED = [(method, path, scope) for (method, path), scope in ROUTES.items() if scope]


def routes_of(app: Any) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, operations in app.items() for method in operations}


def test_every_route_stands_in_the_table_above(shop: Any) -> None:
    described = routes_of(shop.client.get("/openapi.json").json()["paths"])
    hidden = {("GET", "/openapi.json"), ("GET", "/healthz")}
    assert described == set(ROUTES) - hidden


@pytest.mark.parametrize(("method", "path", "scope"), GUARDED)
def test_a_route_asks_for_a_key_with_its_scope(
    shop: Any, is_problem: IsProblem, method: str, path: str, scope: str
) -> None:
    body = BODIES.get(path)
    bare = is_problem(shop.client.request(method, path, json=body), 401, "access-denied")
    assert "Authorization: Bearer" in bare["detail"]
    others = [name for name in agents.SCOPES if name != scope]
    lacking = shop.key(None, *others)
    refused = is_problem(shop.ask(method, path, body, key=lacking), 403, "access-denied")
    assert f"'{scope}'" in refused["detail"]
    enough = shop.key("A0003" if scope != "ops" else None, scope)
    assert shop.ask(method, path, body, key=enough).status_code not in (401, 403)


@pytest.mark.parametrize("header", ["aiq_nobody", "", "Basic x", "Bearer", "Bearer aiq_nobody"])
def test_a_key_that_is_none_is_401(shop: Any, is_problem: IsProblem, header: str) -> None:
    answer = shop.client.get("/v1/cart", headers={"Authorization": header})
    is_problem(answer, 401, "access-denied")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert "nobody" not in answer.text


def test_a_key_expires_to_the_microsecond(shop: Any, is_problem: IsProblem) -> None:
    key = shop.key("A0003", "cart:write", expires_us=shop.now_us + 10)
    assert shop.ask("GET", "/v1/cart", key=key).status_code == 200
    shop.now_us += 10
    refused = is_problem(shop.ask("GET", "/v1/cart", key=key), 401, "access-denied")
    assert "expired" in refused["detail"]


def test_a_revoked_key_dies_within_seconds(shop: Any, is_problem: IsProblem) -> None:
    text, key = agents.create_key(shop.state.commerce, "A0003", ["cart:write"], 0)
    assert shop.ask("GET", "/v1/cart", key=text).status_code == 200
    agents.revoke_key(shop.state.commerce, key.key_id, shop.now_us)
    shop.now_us += 5_000_000
    refused = is_problem(shop.ask("GET", "/v1/cart", key=text), 401, "access-denied")
    assert "revoked" in refused["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommendations", {"agent_id": "A0001"}),
        ("/v1/recommendations", {"agent_id": "A9999"}),
        ("/v1/interactions", {"agent_id": "A0001", "events": [{"event_id": "e", "lead_id": "L"}]}),
    ],
)
def test_a_key_acts_for_its_own_agent_only(
    shop: Any, is_problem: IsProblem, path: str, body: Any
) -> None:
    is_problem(shop.ask("POST", path, body, agent="A0003"), 403, "access-denied")


def test_an_operator_may_ask_for_any_agent_that_there_is(shop: Any, is_problem: IsProblem) -> None:
    ask = lambda name: shop.ask("POST", "/v1/recommendations", {"agent_id": name}, agent=None)  # noqa: E731
    assert ask("A0001").status_code == 200
    is_problem(ask("A9999"), 404, "not-found")


def test_an_agent_without_a_snapshot_can_search_but_not_be_ranked(
    shop: Any, is_problem: IsProblem
) -> None:
    agents.add(
        shop.state.commerce, [agents.Agent("A0099", "New", agents.Tier.BASIC, "testville")], 0
    )
    assert shop.ask("GET", "/v1/leads", agent="A0099").json()["items"]
    is_problem(
        shop.ask("POST", "/v1/recommendations", {"agent_id": "A0099"}, agent="A0099"),
        404,
        "not-found",
    )


@pytest.mark.parametrize(
    "path", ["/", "/nope", "/v1", "/v1/leads/", "/docs", "/redoc", "/docs.json"]
)
def test_an_unknown_path_is_a_problem(shop: Any, is_problem: IsProblem, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH"):
        is_problem(shop.client.request(method, path), 404, "not-found")


def test_a_wrong_method_is_a_problem(shop: Any, is_problem: IsProblem) -> None:
    answer = shop.client.put("/v1/leads")
    is_problem(answer, 405, "method-not-allowed")
    assert answer.headers["Allow"] == "GET"
    is_problem(shop.client.get("/v1/checkout"), 405, "method-not-allowed")


@pytest.mark.parametrize("body", [b"{bad", b"", b"\xff\xfe", b"[1,", b'{"agent_id": '])
def test_malformed_json_is_a_problem(shop: Any, body: bytes) -> None:
    key = shop.key("A0003")
    answer = shop.client.post(
        "/v1/recommendations",
        content=body,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_is_too_large_is_not_read(shop: Any, is_problem: IsProblem) -> None:
    key = shop.key("A0003")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    big = b" " * (BODY_LIMIT_BYTES + 1)
    is_problem(
        shop.client.post("/v1/recommendations", content=big, headers=headers),
        413,
        "body-too-large",
    )
    told = shop.client.post("/v1/recommendations", content=big, headers=headers).json()
    figures = (told["limit"], told["value"], told["used"])
    assert figures == ("body_bytes", BODY_LIMIT_BYTES, len(big))
    parts = (b" " * 65_536 for _ in range(BODY_LIMIT_BYTES // 65_536 + 2))
    is_problem(
        shop.client.post("/v1/recommendations", content=parts, headers=headers),
        413,
        "body-too-large",
    )


def test_a_fault_is_a_problem_without_its_message(
    shop: Any, is_problem: IsProblem, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def broken(_X: Any) -> Any:
        raise RuntimeError("jane@example.com")

    monkeypatch.setattr(shop.state.scorer, "score", broken)
    answer = shop.ask("POST", "/v1/recommendations", {"agent_id": "A0003"})
    is_problem(answer, 500, "internal-error")
    logged = "".join(capsys.readouterr())
    assert "RuntimeError" in logged
    assert "jane@example.com" not in logged + answer.text


def test_the_document_describes_every_error_and_the_key(shop: Any) -> None:
    document = shop.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for (method, path), scope in ROUTES.items():
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            continue
        errors = {status for status in operation["responses"] if status[0] in "45"}
        for status in errors:
            content = operation["responses"][status]["content"]
            assert list(content) == ["application/problem+json"], (path, status)
        assert {"400", "413", "422", "500", "503"} <= errors
        assert ({"401", "403"} <= errors) == bool(scope) == bool(operation.get("security"))
        headers = [p for p in operation.get("parameters", []) if p["name"] == "Idempotency-Key"]
        assert all(header["required"] for header in headers)
        assert bool(headers) == ("409" in errors)


def test_metrics_are_labelled_by_route_and_never_by_path(shop: Any) -> None:
    for name in ("L00001", "L00002", "secret-name"):
        shop.ask("GET", f"/v1/leads/{name}")
    shop.client.get("/no/such/path")
    shop.client.request("BREW", "/v1/leads")
    shop.ask("POST", "/v1/recommendations", {"agent_id": "A0003"})
    text = shop.client.get("/metrics").text
    assert 'route="/v1/leads/{lead_id}"' in text
    assert 'route="unmatched"' in text
    assert 'method="other"' in text
    assert "aiqleads_ranking_candidates_count" in text
    for name in ("L00001", "secret-name", "/no/such", "BREW"):
        assert name not in text


def test_the_worker_tells_operators_what_it_is(shop: Any) -> None:
    body = shop.ask("GET", "/v1/admin/process", agent=None).json()
    assert body["rss_bytes"] > 2**20
    assert "catboost" in body["modules"]
    assert body["model_version"] == shop.state.scorer.version


def test_probes_answer(shop: Any) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        assert shop.client.get(path).status_code == 200


def test_no_route_hides_from_the_scopes_table(shop: Any) -> None:
    plain = [route for route in shop.client.app.routes if isinstance(route, APIRoute)]
    assert {route.path for route in plain} <= {path for _, path in ROUTES}


def test_a_request_of_many_faults_lists_a_few(shop: Any, is_problem: IsProblem) -> None:
    body = {"agent_id": "A0003", **{f"odd{i}": i for i in range(5_000)}}
    answer = shop.ask("POST", "/v1/recommendations", body)
    problem = is_problem(answer, 422, "invalid-input")
    assert len(problem["errors"]) == 20
    assert "(and 4999 more)" in problem["detail"]
    assert len(answer.content) < 10_000
    long = is_problem(shop.ask("GET", f"/v1/leads?{'x' * 9_000}=1"), 422, "invalid-input")
    assert len(str(long)) < 2_000


def test_a_length_of_many_digits_is_too_large(shop: Any, is_problem: IsProblem) -> None:
    answer = shop.client.get("/livez", headers={"Content-Length": "9" * 5_000})
    is_problem(answer, 413, "body-too-large")


def test_a_client_who_leaves_is_no_fault_of_ours(
    shop: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/stripe/webhook",
        "raw_path": b"/v1/stripe/webhook",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(shop.client.app(scope, receive, send))
    assert sent == []
    assert "fault" not in "".join(capsys.readouterr())


def test_a_clock_set_back_keeps_no_revoked_key_alive(shop: Any, is_problem: IsProblem) -> None:
    text, key = agents.create_key(shop.state.commerce, "A0003", ["cart:write"], 0)
    assert shop.ask("GET", "/v1/cart", key=text).status_code == 200
    shop.now_us -= 3_600_000_000
    agents.revoke_key(shop.state.commerce, key.key_id, shop.now_us)
    is_problem(shop.ask("GET", "/v1/cart", key=text), 401, "access-denied")


@pytest.mark.parametrize("text", ["\\ud800", "L\\u0000", "\\u00e9"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/recommendations", '{"agent_id": "%s"}'),
        ("/v1/recommendations", '{"agent_id": "A0003", "filters": {"property_types": ["%s"]}}'),
        (
            "/v1/interactions",
            '{"agent_id": "A0003", "events": [{"event_id": "e", "lead_id": "%s"}]}',
        ),
        (
            "/v1/interactions",
            '{"agent_id": "A0003", "events": [{"event_id": "e", "lead_id": "L00001", '
            '"request_id": "%s"}]}',
        ),
        ("/v1/cart/holds", '{"lead_ids": ["%s"]}'),
        ("/v1/checkout", '{"hold_ids": ["%s"]}'),
    ],
)
def test_text_that_no_database_takes_is_bad_input(
    shop: Any, is_problem: IsProblem, path: str, body: str, text: str
) -> None:
    headers = {
        "Authorization": f"Bearer {shop.key('A0003')}",
        "Content-Type": "application/json",
        "Idempotency-Key": "k",
    }
    answer = shop.client.post(path, content=body % text, headers=headers)
    is_problem(answer, 422, "invalid-input")


@pytest.mark.parametrize("path", ["/v1/leads/%00", "/v1/orders/%00", "/v1/orders/%ED%A0%80"])
def test_a_path_that_no_database_takes_is_bad_input(
    shop: Any, is_problem: IsProblem, path: str
) -> None:
    is_problem(shop.ask("GET", path), 422, "invalid-input")


@pytest.mark.parametrize("place", [[True, "a"], [1, "\ud800"], [1, "\0"], [2**63, "a"], {"a": 1}])
@pytest.mark.parametrize("path", ["/v1/orders", "/v1/leads"])
def test_a_made_up_cursor_is_bad_input(
    shop: Any, is_problem: IsProblem, path: str, place: Any
) -> None:
    cursor = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    is_problem(shop.ask("GET", path, params={"cursor": cursor}), 422, "invalid-input")


def test_a_figure_beyond_a_bound_names_the_bound(shop: Any, is_problem: IsProblem) -> None:
    body = {"amount_cents": 10**9 + 1, "payment_method": "pm_card_visa"}
    (fault,) = is_problem(shop.ask("POST", "/v1/wallet/topups", body), 422, "invalid-input")[
        "errors"
    ]
    assert (fault["where"], fault["le"]) == ("body/amount_cents", 10**9)
    many = {"lead_ids": ["L1"] * 501}
    (fault,) = is_problem(shop.ask("POST", "/v1/cart/holds", many), 422, "invalid-input")["errors"]
    assert (fault["max_length"], fault["actual_length"]) == (500, 501)
