# ruff: noqa: E501  (texts of the source are quoted as they stand)
"""Bugs that a tired programmer could write, each in one place, and the tests that catch them.

The list is itself under test: every text must stand in today's source exactly once, and a sample
is planted at each run of the tests; `make soak NAME=commerce` plants them all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "aiqleads"
UNIT = "tests/unit/commerce"


@dataclass(frozen=True)
class Bug:
    """`old` becomes `new` in a file of src/aiqleads; `tests` must then fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str

    @property
    def path(self) -> Path:
        return SOURCE / self.file

    def planted(self, folder: Path) -> Path:
        """A copy of the source with the bug in it, below `folder`."""
        copy = folder / "src"
        shutil.copytree(SOURCE.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / "aiqleads" / self.file
        text = file.read_text()
        assert text.count(self.old) == 1, f"{self.name}: its text stands {text.count(self.old)}x"
        file.write_text(text.replace(self.old, self.new))
        return copy

    def outcome(self, source: Path) -> tuple[int, str]:
        """Exit code and last lines of the tests on a source; 1 says that a test failed."""
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-x", "-q", "--no-cov",
             "-k", "not postgresql", *self.tests.split()],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        return run.returncode, run.stdout[-3_000:]


HOLDS = f"{UNIT}/test_holds.py"
CHECKOUT = f"{UNIT}/test_checkout.py"
LICENCES = f"{UNIT}/test_licences.py"
RECONCILE = f"{UNIT}/test_reconcile.py"
REFUNDS = f"{UNIT}/test_refunds.py"
RETURNS = f"{UNIT}/test_returns.py"
PROPERTIES = "tests/property/test_commerce_properties.py"

BUGS = [
    # --- holds ---------------------------------------------------------------------
    Bug("a hold still keeps its slot at the moment of its end", "store/holds.py",
        "return kept and (self.held_until_us or 0) <= now_us",
        "return kept and (self.held_until_us or 0) < now_us", HOLDS),
    Bug("a hold is live at the moment of its end", "store/holds.py",
        'lead_slot.c.held_until_us > bindparam("now_us"))\n_live_count',
        'lead_slot.c.held_until_us >= bindparam("now_us"))\n_live_count', f"{HOLDS} {CHECKOUT}"),
    Bug("the fencing token is not compared", "store/holds.py",
        'lead_slot.c.token == bindparam("the_token"),\n)\n_take',
        'bindparam("the_token") >= 0,\n)\n_take', f"{UNIT} {PROPERTIES}"),
    Bug("what is over is sold", "store/holds.py",
        '.where(_of_token, _live, lead_slot.c.agent_id == bindparam("who"))',
        '.where(_of_token, or_(_live, lead_slot.c.state == "held"), '
        'lead_slot.c.agent_id == bindparam("who"))', f"{CHECKOUT} {RECONCILE}"),
    Bug("a token does not rise", "store/holds.py",
        "return 1 + max(slot.token", "return max(slot.token", HOLDS),
    Bug("an exclusive sale leaves the other slots open", "store/holds.py",
        '_close_blocked.run(connection, {**grant, "at_us": now_us})',
        '_free.run(connection, {**grant, "at_us": now_us})', HOLDS),
    Bug("a grant begins before the slot was free", "store/holds.py",
        "return max(now_us, *(slot.changed_us for slot in self.slots))", "return now_us", HOLDS),
    Bug("expired holds count as live", "store/holds.py",
        'lead_slot.c.agent_id == bindparam("who"), _live\n    )',
        'lead_slot.c.agent_id == bindparam("who"), or_(_live, lead_slot.c.state == "held")\n    )',
        HOLDS),
    Bug("a card payment extends a hold again and again", "store/holds.py",
        "if not item.extended and item.expires_us < until_us", "if item.expires_us < until_us",
        CHECKOUT),
    Bug("one hold too many", "commerce/limits.py",
        "return max(0, ENTITLEMENTS[tier].live_holds - live)",
        "return max(0, ENTITLEMENTS[tier].live_holds - live + 1)", HOLDS),
    Bug("the largest bulk is refused", "commerce/limits.py",
        "if asked > most:", "if asked >= most:", HOLDS),
    Bug("no cool-down", "commerce/limits.py",
        "if past.ended_us and now_us < again_us:", "if past.ended_us and now_us < 0:", HOLDS),
    Bug("a cool-down that is a moment too long", "commerce/limits.py",
        "if past.ended_us and now_us < again_us:", "if past.ended_us and now_us <= again_us:",
        f"{HOLDS} {PROPERTIES}"),
    Bug("a lead can be held once more when its time is used up", "commerce/limits.py",
        "if past.held_us >= most * _US_PER_MINUTE:", "if past.held_us > most * _US_PER_MINUTE:",
        HOLDS),
    Bug("a hold outlives its lead", "commerce/limits.py",
        "return until_us if ends_us is None else min(until_us, ends_us)", "return until_us", HOLDS),
    Bug("the agent's own expired slot is passed over", "commerce/holds.py",
        "key=lambda slot: slot is not mine", "key=lambda slot: slot.slot",
        f"{HOLDS} {PROPERTIES}"),
    Bug("exclusive though somebody has a slot", "commerce/holds.py",
        "if exclusive and open_ and len(open_) == len(slots):", "if exclusive and open_:", HOLDS),
    Bug("best effort goes beyond the limit", "commerce/holds.py",
        "if isinstance(answer, Grant) and len(chosen) == room:",
        "if isinstance(answer, Grant) and len(chosen) > room:", HOLDS),
    Bug("all or nothing holds what it can", "commerce/holds.py",
        'if problems and (mode == "all_or_nothing" or not chosen):',
        "if problems and not chosen:", HOLDS),
    Bug("a repeated request holds again", "commerce/holds.py",
        "if key is not None and (before := _stored(connection, hold_id, now_us)) is not None:",
        "if key is None and (before := _stored(connection, hold_id, now_us)) is not None:", HOLDS),
    # --- licences ------------------------------------------------------------------
    Bug("a licence is not asked for at the checkout", "commerce/checkout.py",
        "licences.check(connection, agent_id, register.states(lead_ids), now_us)", "pass", LICENCES),
    Bug("a licence that ran out counts", "store/licences.py",
        "return self.expires_us is None or now_us < self.expires_us", "return True", LICENCES),
    # --- checkout ------------------------------------------------------------------
    Bug("the last cent cannot be spent", "commerce/checkout.py",
        "if balance_cents < needed_cents:", "if balance_cents <= needed_cents:", CHECKOUT),
    Bug("who owes money buys on", "commerce/debts.py",
        "if owed > 0:", "if owed > 10**9:", REFUNDS),
    Bug("a wallet purchase fills the wallet", "commerce/checkout.py",
        "[Leg(wallet, order.amount_cents), Leg(REVENUE, -order.amount_cents)]",
        "[Leg(wallet, -order.amount_cents), Leg(REVENUE, order.amount_cents)]", CHECKOUT),
    Bug("a repeated purchase is refused", "commerce/checkout.py",
        "if key is not None and (before := rows.find(connection, order_id)) is not None:",
        "if key is None and (before := rows.find(connection, order_id)) is not None:", CHECKOUT),
    Bug("caps are not asked when a card pays", "commerce/checkout.py",
        "check_purchase(connection, agent_id, _prices(items), now_us)\n    holds.extend",
        "holds.extend", f"{UNIT}/test_caps.py"),
    Bug("caps do not count what is being paid for", "store/caps.py",
        "orders.c.state.in_((*OPEN, *SOLD))", "orders.c.state.in_(SOLD)", f"{UNIT}/test_caps.py"),
    # --- card payments -------------------------------------------------------------
    Bug("the money is taken before the sale", "commerce/reconcile.py",
        "intent = _intent(engine, payments, attempt, capture=False, late=late)",
        "intent = _intent(engine, payments, attempt, capture=True, late=late)",
        f"{CHECKOUT} {RECONCILE}"),
    Bug("a lost hold is sold", "commerce/reconcile.py",
        "                    raise _HoldLost", "                    continue",
        f"{CHECKOUT} {RECONCILE}"),
    Bug("an ended order keeps its authorisation", "commerce/reconcile.py",
        "    elif attempt is not None and order.state in DEAD:\n        _void(",
        "    elif attempt is None and order.state in DEAD:\n        _void(",
        f"{CHECKOUT} {RECONCILE}"),
    Bug("an error that Stripe keeps is taken for a payment that never was", "commerce/reconcile.py",
        "            found = payments.find(attempt.attempt_id, created_s)\n"
        "            if found is None and unknown",
        "            found = None\n            if found is None and unknown", RECONCILE),
    Bug("a key is spent on the first error", "commerce/payments.py",
        "raise OutcomeUnknown(detail, is_over=_is_replayed(problem)) from problem",
        "raise OutcomeUnknown(detail, is_over=True) from problem", f"{RECONCILE} {REFUNDS}"),
    Bug("a payment begins after its deadline", "commerce/reconcile.py",
        "late = order.deadline_us is not None and now_us >= order.deadline_us", "late = False",
        RECONCILE),
    Bug("a capture is posted under a name of its own", "commerce/reconcile.py",
        'f"capture:{intent.intent_id}",\n            f"top-up',
        'f"capture:{attempt.attempt_id}",\n            f"top-up', CHECKOUT),
    Bug("what is owed is posted the wrong way round", "commerce/reconcile.py",
        "Leg(ledger.receivable_of(order.agent_id), order.amount_cents),\n"
        "                Leg(REVENUE, -order.amount_cents),",
        "Leg(ledger.receivable_of(order.agent_id), -order.amount_cents),\n"
        "                Leg(REVENUE, order.amount_cents),", f"{RECONCILE} {REFUNDS}"),
    Bug("strays keep their money", "commerce/reconcile.py",
        "strays += _cancelled(payments, intent.intent_id)", "strays += 1", RECONCILE),
    Bug("the sweep ends at the first payment that waits", "commerce/tally.py",
        "self.waiting += 1\n", "self.waiting += 1\n                raise\n", RECONCILE),
    Bug("the sweep ends at the first fault", "commerce/tally.py",
        "self.failed += 1\n", "self.failed += 1\n                raise\n", RECONCILE),
    Bug("a release tells what it did this time alone", "commerce/holds.py",
        'hold_item.c.ended_how == "released")', "hold_item.c.ended_us == now_us)",
        f"{HOLDS} tests/unit/api/test_shop_routes.py"),
    Bug("webhooks signed in the future pass", "commerce/payments.py",
        "if abs(now_s - signed_s) > WEBHOOK_TOLERANCE_SECONDS:",
        "if now_s - signed_s > WEBHOOK_TOLERANCE_SECONDS:", RECONCILE),
    Bug("forged webhooks pass", "commerce/payments.py",
        "stripe.WebhookSignature.verify_header(text, signature, self._webhook_secret)",
        "stripe.WebhookSignature", RECONCILE),
    Bug("a busy line is not tried again", "commerce/payments.py",
        "if attempt + 1 == _TOO_MANY_RETRIES:", "if attempt + 1 >= 1:", RECONCILE),
    Bug("an old webhook passes behind a time that nobody signed", "commerce/payments.py",
        'return int(next(item[2:] for item in signature.split(",") if item.startswith("t=")))',
        'return int(signature.partition("t=")[2].partition(",")[0])',
        "tests/integration/test_stripe_webhooks.py"),

    # --- refunds, disputes, debts ----------------------------------------------------
    Bug("a refund that came to nothing is told", "commerce/refunds.py",
        "        if is_new:\n", "        if True:\n", REFUNDS),
    Bug("more is refunded than is left", "commerce/refunds.py",
        "if not 0 < cents <= left:", "if not 0 < cents:", REFUNDS),
    Bug("a refund has a new key at each try", "commerce/refunds.py",
        'key=orders.try_key(f"{made.refund_id}:refund", made.tries)', 'key=f"{now_us}"', REFUNDS),
    Bug("a failed refund counts", "commerce/refunds.py",
        'connection, made.refund_id, ("succeeded",), "failed", now_us, failure=failure',
        'connection, made.refund_id, ("open",), "failed", now_us, failure=failure', REFUNDS),
    Bug("a wallet goes below zero", "commerce/debts.py",
        "ledger.wallet_of(agent_id): min(has, cents),\n"
        "        ledger.receivable_of(agent_id): cents - min(has, cents),",
        "ledger.wallet_of(agent_id): cents,", REFUNDS),
    Bug("a debt is paid in parts that leave the order owed", "commerce/debts.py",
        "if order.amount_cents > has - paid:", "if order.amount_cents < has - paid:", REFUNDS),
    Bug("fees are not recorded", "commerce/movements.py",
        "        if movement.fee_cents:\n            _fee(", "        if not movement:\n            _fee(",
        REFUNDS),
    Bug("what is won stays in dispute", "commerce/movements.py",
        'orders.move(connection, attempt.order_id, ["disputed"], "won")',
        'orders.move(connection, attempt.order_id, ["won"], "won")', REFUNDS),
    Bug("the balance is read on though a payment waits", "commerce/movements.py",
        "    if not waits:\n", "    if True:\n", REFUNDS),
    # --- returns -------------------------------------------------------------------
    Bug("one return too many", "commerce/returns.py",
        "if used >= most:", "if used > most:", RETURNS),
    Bug("a return after its window", "commerce/returns.py",
        "if now_us >= order.created_us + RULES.window_days * US_PER_DAY:",
        "if now_us > order.created_us + RULES.window_days * US_PER_DAY:", RETURNS),
    Bug("a lead that is none stays on sale", "commerce/returns.py",
        "if RULES.reasons[made.reason].ends_lead:", "if not RULES.reasons:", RETURNS),
    Bug("what was refunded is returned as well", "commerce/returns.py",
        "if refunds.given_back_cents(connection, order_id) + item.price_cents > order.amount_cents:",
        "if item.price_cents > order.amount_cents:", REFUNDS),
    Bug("a return is credited to nobody", "commerce/returns.py",
        "            Leg(RETURNS_ACCOUNT, made.credit_cents),\n"
        "            Leg(ledger.wallet_of(made.agent_id), -made.credit_cents),",
        "            Leg(RETURNS_ACCOUNT, made.credit_cents),\n"
        '            Leg("revenue", -made.credit_cents),', RETURNS),
    # --- ledger --------------------------------------------------------------------
    Bug("a transaction need not balance", "store/ledger.py",
        "if sum(leg.cents for leg in legs) or not legs or", "if not legs or",
        f"{UNIT}/test_commerce_schema.py"),
    Bug("debits and credits are told by the wrong sign", "store/ledger.py",
        '"direction": "debit" if leg.cents > 0 else "credit",',
        '"direction": "debit" if leg.cents < 0 else "credit",', CHECKOUT),
    # --- idempotency ---------------------------------------------------------------
    Bug("a key answers another request", "commerce/idempotency.py",
        "if stored.request_sha256 != request_sha256:", "if not stored.request_sha256:",
        f"{UNIT}/test_idempotency.py"),
    Bug("a stored answer is not given", "commerce/idempotency.py",
        "if stored.status is not None:", "if stored.status is None:",
        f"{UNIT}/test_idempotency.py"),
    Bug("a running request is taken over at once", "commerce/idempotency.py",
        "if now_us - stored.created_us < TAKEOVER_US:", "if now_us < stored.created_us:",
        f"{UNIT}/test_idempotency.py"),
    Bug("a secret is kept with its answer", "api/once.py",
        "if secret:\n", "if secret and not body:\n",
        "tests/unit/api/test_account_routes.py"),
    # --- bought time, recharge, seats, prices, doors ---------------------------------
    Bug("time can be bought without end", "commerce/extensions.py",
        "if hours not in allowed or used + hours > most:", "if hours not in allowed:",
        f"{UNIT}/test_extensions.py"),
    Bug("bought time outlives the lead", "commerce/extensions.py",
        "        _check_lives(ends, ends_us)\n", "", f"{UNIT}/test_extensions.py"),
    Bug("a recharge knows no ceiling", "commerce/recharge.py",
        "if under_way or spent + rule.amount_cents > rule.daily_most_cents:", "if under_way:",
        f"{UNIT}/test_recharge.py"),
    Bug("two recharges at once", "commerce/recharge.py",
        "if under_way or spent + rule.amount_cents > rule.daily_most_cents:",
        "if spent + rule.amount_cents > rule.daily_most_cents:", f"{UNIT}/test_recharge.py"),
    Bug("a declined recharge goes on", "store/orders.py",
        "connection.execute(update(auto_recharge).where(mine).values(paused=why[:60]))",
        "connection.execute(update(auto_recharge).where(mine).values(paused=''))",
        f"{UNIT}/test_recharge.py"),
    Bug("a removed member's key lives on", "store/members.py",
        'raise UnknownName(f"no member {member_id!r}")\n        _revoke(connection, member_id, now_us)',
        'raise UnknownName(f"no member {member_id!r}")', "tests/unit/api/test_account_routes.py"),
    Bug("one seat too many", "store/members.py",
        "if used >= most:", "if used > most:", "tests/unit/api/test_account_routes.py"),
    Bug("a price has no cap", "commerce/pricing.py",
        "return np.clip(rounded, table.floor_cents, table.cap_cents).astype(np.int64)",
        "return np.maximum(rounded, table.floor_cents).astype(np.int64)",
        f"{UNIT}/test_pricing.py"),
    Bug("halves are rounded to even", "commerce/pricing.py",
        "rounded = np.floor(product + 0.5)", "rounded = np.rint(product)",
        f"{UNIT}/test_pricing.py"),
    Bug("anybody reads anybody's order", "commerce/orders.py",
        "if order is None or order.agent_id != agent_id:", "if order is None:",
        f"{CHECKOUT} tests/unit/api/test_shop_routes.py"),
    Bug("a key without the scope may", "api/auth.py",
        "if scope not in key.scopes:", "if not scope:", "tests/unit/api/test_doors.py"),
]  # fmt: skip
