from __future__ import annotations

import numpy as np
import pytest

from aiqleads.market_sim import attention
from aiqleads.market_sim.presets import Examination, load_preset

CALM = load_preset("calm").examination
TIRED = Examination(
    kind="cascade", desktop_exponent=0, mobile_exponent=0, desktop_go_on=0.9, mobile_go_on=0.8,
    go_on_after_click=0.5,
)  # fmt: skip


def test_attention_falls_with_the_position_and_faster_on_a_phone() -> None:
    desktop = attention.by_position(30, "desktop", CALM)
    mobile = attention.by_position(30, "mobile", CALM)
    assert desktop[0] == mobile[0] == 1.0
    assert desktop[3] == pytest.approx(4**-CALM.desktop_exponent)
    assert (np.diff(desktop) < 0).all()
    assert (mobile[1:] < desktop[1:]).all()


def test_a_cascade_stops_for_good_and_sooner_after_a_click() -> None:
    rng = np.random.default_rng(0)
    seen, clicked = np.zeros(10), np.zeros(10)
    opens = np.arange(10) == 1
    for _ in range(20_000):
        luck = rng.random(10)
        looks = attention.cascade(luck, np.zeros(10, np.bool_), "desktop", TIRED)
        assert looks[0]
        assert (np.diff(looks.astype(int)) <= 0).all()
        seen += looks
        clicked += attention.cascade(luck, opens, "desktop", TIRED)
    assert seen / 20_000 == pytest.approx(0.9 ** np.arange(10), abs=0.015)
    # After the second lead, which is opened, one goes on half of the time.
    after = np.array([1.0, 0.9, *(0.9 * 0.5 * 0.9 ** np.arange(8))])
    assert clicked / 20_000 == pytest.approx(after, abs=0.015)


def test_what_is_usual_is_exact_where_nothing_depends_on_clicks() -> None:
    assert (attention.usual(30, "mobile", 0.3, CALM)
            == attention.by_position(30, "mobile", CALM)).all()  # fmt: skip
    goes_on = 0.25 * 0.5 + 0.75 * 0.8
    assert attention.usual(5, "mobile", 0.25, TIRED) == pytest.approx(goes_on ** np.arange(5))


def test_trust_is_of_the_top() -> None:
    rule = CALM.model_copy(update={"trust": 0.4, "trust_exponent": 1.0})
    assert attention.trusted(4, rule) == pytest.approx([0.4, 0.2, 0.4 / 3, 0.1])
    assert not attention.trusted(30, CALM).any()


def test_on_a_map_what_is_far_or_crowded_is_seen_less() -> None:
    rule = CALM.model_copy(
        update={"map_reach_m": 1000.0, "map_clutter_m": 100.0, "map_clutter_exponent": 1.0}
    )
    x = np.array([0.0, 1000.0, 5000.0, 5050.0])
    looks = attention.on_map(x, np.zeros(4), (0.0, 0.0), rule)
    assert looks[0] == 1.0
    assert looks[1] == pytest.approx(np.exp(-1))
    assert looks[2] == pytest.approx(np.exp(-5) / 2)
    # The order in which they are listed changes nothing.
    assert attention.on_map(x[::-1], np.zeros(4), (0.0, 0.0), rule) == pytest.approx(looks[::-1])
