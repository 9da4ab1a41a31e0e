"""Checks every file of figures that the shop reads, before anything starts."""

from __future__ import annotations


def check() -> None:
    """Raises InvalidInput naming file and key; each file is checked as its reader loads."""
    import aiqleads.commerce.contacts
    import aiqleads.commerce.pricing
    import aiqleads.commerce.returns  # noqa: F401
