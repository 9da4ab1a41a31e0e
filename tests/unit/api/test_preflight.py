from __future__ import annotations

import json

import pytest
import structlog

from aiqleads.api.log import configure
from aiqleads.api.preflight import check
from aiqleads.api.state import ServiceState
from aiqleads.errors import NotReady
from aiqleads.settings import Settings


def test_an_empty_home_says_all_that_is_missing_in_one_line(home: Settings) -> None:
    with pytest.raises(NotReady) as caught:
        check(home, home.home / "scorer")
    detail = caught.value.detail
    for part in ("model.cbm", "model.json", "snapshot", "leads.db", "commerce.db", "make demo"):
        assert part in detail
    assert "\n" not in detail


def test_a_server_database_is_not_looked_for_as_a_file(home: Settings) -> None:
    remote = home.model_copy(update={"database_url": "postgresql+psycopg://x/y"})
    with pytest.raises(NotReady) as caught:
        check(remote, home.home / "scorer")
    assert ".db" not in caught.value.detail


def test_a_model_of_other_columns_is_found_before_workers_start(served: Settings) -> None:
    scorer = served.home / "scorer"
    check(served, scorer)
    card = json.loads((scorer / "model.json").read_text())
    card["features"][0] = "moon_phase"
    (scorer / "model.json").write_text(json.dumps(card))
    with pytest.raises(NotReady, match="moon_phase"):
        check(served, scorer)
    (served.data / "snapshots" / "current").write_text("gone")
    with pytest.raises(NotReady, match="gone"):
        check(served, scorer)


def test_the_state_names_the_stripe_that_takes_the_money(served: Settings) -> None:
    def notice(**changed: str) -> str:
        settings = Settings(home=served.home, **changed)  # type: ignore[arg-type]
        state = ServiceState.open(settings, served.home / "scorer")
        state.close()
        return state.payments_notice

    assert "stand-in" in notice()
    assert notice(stripe_secret_key="sk_test_x") == "Card payments go to Stripe."
    assert "127.0.0.1" in notice(
        stripe_secret_key="sk_test_x", stripe_api_base="http://127.0.0.1:9"
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_log_goes_to_stderr(
    home: Settings, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        configure(home.model_copy(update={"log_format": form}))
        structlog.get_logger("test").info("happened", figure=3)
    finally:
        structlog.reset_defaults()
    out, err = capsys.readouterr()
    assert out == ""
    assert "happened" in err
    assert (json.loads(err)["figure"] == 3) if form == "json" else ("figure=3" in err)
