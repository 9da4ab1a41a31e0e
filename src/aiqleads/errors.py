"""Every error that this package raises on purpose.

    AIQLeadsError
    ├── InvalidInput         what was given cannot be used     exit 2, HTTP 422
    │   ├── UnknownName      a name that nothing answers to    exit 2, HTTP 404
    │   └── ContractBroken   a frame is not what was promised  exit 2, HTTP 422
    ├── AccessDenied         no key, or one that may not       HTTP 401 or 403
    ├── Refused              a rule of the shop says no        HTTP 402, 403, 409, 422 or 429
    └── NotReady             something must be made first      exit 2, HTTP 503

Anything else that escapes is a fault of ours: exit 1, HTTP 500.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any


class AIQLeadsError(Exception):
    """Root of the tree; `detail` is one line that a person can act on."""

    #: last part of the RFC 9457 problem type, stable across releases
    kind = "error"
    status = 500

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra


class InvalidInput(AIQLeadsError):
    """What was given cannot be used as it is."""

    kind = "invalid-input"
    status = 422


class UnknownName(InvalidInput):
    """A name (market, source, agent, lead, ...) that nothing answers to."""

    kind = "not-found"
    status = 404


class ContractBroken(InvalidInput):
    """A whole frame is not what its contract promises (a column is missing, say)."""

    kind = "contract-broken"


class AccessDenied(AIQLeadsError):
    """No key, an expired key (401), or a key without the scope (403)."""

    kind = "access-denied"
    status = 401

    def __init__(self, detail: str, *, status: int = 401, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.status = status


class Refused(AIQLeadsError):
    """A rule of the shop says no; `kind` names the rule, `extra` its figures."""

    def __init__(self, kind: str, detail: str, *, status: int = 409, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.kind = kind
        self.status = status


class NotReady(AIQLeadsError):
    """Something that must exist first does not; `detail` says how to make it."""

    kind = "not-ready"
    status = 503


def why(error: BaseException) -> str:
    """What may be kept of an error: ours say it without any value, others only their type."""
    if isinstance(error, AIQLeadsError):
        return error.detail
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
