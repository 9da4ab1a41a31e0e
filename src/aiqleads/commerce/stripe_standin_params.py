"""How the Stripe stand-in says no, and how it reads parameters ("Errors", API reference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

_PAGE = 10  # "Pagination": default and greatest size of a page
_LARGEST_PAGE = 100


@dataclass(eq=False)
class Problem(Exception):
    """An error answer in Stripe's shape ("Errors" of the API reference)."""

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    decline_code: str | None = None
    intent: Json | None = None
    #: "Idempotent requests": refused before execution began, so nothing is saved
    unsaved: bool = False

    def body(self) -> Json:
        """The answer's body."""
        error: Json = {"type": self.type, "message": self.message}
        for name in ("code", "param", "decline_code"):
            if getattr(self, name) is not None:
                error[name] = getattr(self, name)
        if self.intent is not None:
            error["payment_intent"] = self.intent
        return {"error": error}


def invalid(message: str, code: str | None, param: str | None = None, status: int = 400) -> Problem:
    """A request that is refused as such, before anything was done."""
    return Problem(status, "invalid_request_error", message, code, param, unsaved=True)


def known(params: Mapping[str, str], names: set[str], prefix: str | None = None) -> None:
    """ "Errors": a parameter that the route does not know is refused."""
    for name in params:
        if name not in names and not (prefix and name.startswith(prefix)):
            message = f"Received unknown parameter: {name}"
            raise invalid(message, "parameter_unknown", name)


def integer(params: Mapping[str, str], name: str, least: int, code: str | None) -> int:
    """A parameter that is a whole number of at least `least`."""
    text = params.get(name, "")
    if not text.isascii() or not text.isdigit():
        missing = "parameter_invalid_integer" if text else "parameter_missing"
        raise invalid(f"Invalid integer: {text!r}", missing, name)
    if int(text) < least:
        raise invalid(f"{name} must be at least {least}", code, name)
    return int(text)


def page_size(params: Mapping[str, str]) -> int:
    """ "Pagination": how many objects a page has."""
    limit = integer(dict(params) | {"limit": params.get("limit", str(_PAGE))}, "limit", 1, None)
    if limit > _LARGEST_PAGE:
        raise invalid(f"Invalid integer: {limit}", "parameter_invalid_integer", "limit")
    return limit


def created_between(params: Mapping[str, str]) -> tuple[int, int]:
    """The bounds `created[gte]` and `created[lte]`, in seconds, both included."""
    given = {"created[gte]": "0", "created[lte]": str(1 << 62)} | dict(params)
    return integer(given, "created[gte]", 0, None), integer(given, "created[lte]", 0, None)
