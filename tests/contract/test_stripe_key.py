"""The contract reaches the network with a key of Stripe's test mode, and never otherwise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.contract.stripe_api import KEY_NAME, STRIPE, Api, NotATestKey, answering


@pytest.mark.parametrize("environment", [{}, {KEY_NAME: ""}, {"AIQLEADS_STRIPE_SECRET_KEY": "x"}])
def test_without_a_key_the_stand_in_answers(tmp_path: Path, environment: dict[str, str]) -> None:
    with answering(environment, tmp_path) as api:
        assert api.base.startswith("http://127.0.0.1:")
        assert api.get("/v1/payment_intents")["data"] == []


@pytest.mark.parametrize(
    "key", ["sk_live_1", "rk_live_1", "rk_test_1", "pk_test_1", " sk_test_1", "SK_TEST_1", "1"]
)
def test_a_key_that_might_move_money_is_refused(tmp_path: Path, key: str) -> None:
    with (
        pytest.raises(NotATestKey, match="must begin with sk_test_") as no,
        answering({KEY_NAME: key}, tmp_path),
    ):
        pass
    assert key not in str(no.value)


def test_a_test_key_names_stripe(tmp_path: Path) -> None:
    with answering({KEY_NAME: "sk_test_1"}, tmp_path) as api:
        assert (api.base, api.key) == (STRIPE, "sk_test_1")  # nothing is asked of it here


def test_this_run_asks_whom_its_environment_names(api: Api) -> None:
    assert api.is_stripe is bool(os.environ.get(KEY_NAME))
