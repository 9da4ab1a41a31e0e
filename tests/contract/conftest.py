"""The contract's Stripe, see stripe_api.py."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.contract.stripe_api import Api, answering


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with answering(os.environ, tmp_path_factory.mktemp("stripe")) as made:
        yield made
