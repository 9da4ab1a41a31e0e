"""The OpenAPI document against the service: drawn requests, valid and not, to every operation.

No answer is a fault of ours, and each one is what the document promises: its status, its media
type and the schema of its body.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
AGENT = "A0003"
#: requests to each operation
EXAMPLES = int(os.environ.get("AIQLEADS_SCHEMA_EXAMPLES", "12"))


@pytest.fixture
def document(shop: Any) -> Any:
    """The document of an app in which an agent has held, bought and returned something."""
    shop.top_up(AGENT)
    order = shop.buy(AGENT, shop.lead()).json()
    known = {
        "agent_id": AGENT,
        "lead_id": order["items"][0]["lead_id"],
        "order_id": order["order_id"],
        "hold_id": shop.hold(AGENT, shop.lead(2)).json()["hold_id"],
    }
    loaded = schemathesis.openapi.from_asgi("/openapi.json", shop.client.app)

    @loaded.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        """Every other id is one that there is."""
        if not path_parameters:
            return path_parameters
        return {
            name: known[name] if name in known and len(str(value)) % 2 else value
            for name, value in path_parameters.items()
        }

    @loaded.hook
    def map_body(context: Any, body: Any) -> Any:
        """The same for what is named in bodies."""
        if not isinstance(body, dict) or len(str(body)) % 2:
            return body
        ids = {"lead_ids": [known["lead_id"]], "hold_ids": [known["hold_id"]], **known}
        return {name: ids.get(name, value) for name, value in body.items()}

    loaded.config.base_url = "http://testserver"
    return loaded


def test_every_answer_is_what_the_document_promises(document: Any, shop: Any) -> None:
    keys = {True: shop.key(None), False: shop.key(AGENT)}
    wrong, asked = [], 0
    for found in document.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            headers = {"Authorization": f"Bearer {keys[is_for_operators(case)]}"}
            case.validate_response(case.call(headers=headers), checks=CHECKS)

        try:
            ask()
        except Exception as problem:  # all operations are asked before any is complained of
            wrong.append(f"{operation.label}: {problem}")
    assert not wrong, "\n\n".join(wrong)
    assert asked > 5 * len(list(document.get_all_operations()))


def is_for_operators(case: Any) -> bool:
    """Whether an operation asks for the scope `ops`."""
    path, method = case.operation.path, case.method.upper()
    by_path = path.startswith("/v1/admin") or path == "/v1/score"
    return by_path or (method, path) == ("POST", "/v1/orders/{order_id}/refunds")
