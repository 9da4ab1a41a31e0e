"""A fixed sample of the machine of money and holds; `make soak NAME=commerce` runs it long."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.commerce_faults import Worlds
from tests.commerce_machine import Money, all_ends


@pytest.mark.slow
def test_every_invariant_holds_on_the_way_to_every_end(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    Money.worlds = Worlds(tmp_path_factory.mktemp("machine"))
    Money.reached.clear()
    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=12,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # to shrink a run of a shop takes an hour
            suppress_health_check=list(HealthCheck),
        ),
    )
    missing = [end for end in all_ends() if not Money.reached[end]]
    assert len(missing) < len(all_ends()) / 2, f"reached none of {missing}"
