"""Selling leads: prices, holds, wallet and card checkout, the ledger and its invariants."""
