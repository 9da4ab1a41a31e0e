"""Fetches what people answered in Meta's lead ads: a notification only names the leads.

GET <base>/<leadgen_id> with the page's access token, and with its HMAC under the app secret
(`appsecret_proof`), by which Meta sees that the token was not stolen. See
developers.facebook.com/docs/marketing-api/guides/lead-ads/retrieving.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from aiqleads.errors import InvalidInput
from aiqleads.ingest.feeds import Options
from aiqleads.ingest.pull import check_address, take_turn

BASE = "https://graph.facebook.com/v24.0"
FIELDS = (
    "id,created_time,form_id,ad_id,campaign_id,platform,retailer_item_id,"
    "field_data,custom_disclaimer_responses"
)
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_MOST_BYTES = 1 << 20
# The others of a notification would fail the same way, and the host asks for a pause.
_STOP = frozenset({401, 403, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Answers:
    """Lead objects that were fetched, and why the others were not (none: all are there)."""

    found: tuple[dict[str, Any], ...]
    missing: tuple[str, ...]


class _RefusedError(Exception):
    """One lead was not given; `stop`: nor will the next be."""

    def __init__(self, why: str, *, stop: bool) -> None:
        super().__init__(why)
        self.stop = stop


def fetch(ids: Sequence[str], options: Options) -> Answers:
    """The lead objects of these leadgen ids, as far as the host gives them now.

    options: access_token, secret (of the app), url (instead of BASE), requests_per_second.
    InvalidInput where the feed file has no token or no usable address.
    """
    base = (options.url or BASE).rstrip("/")
    check_address(base, base)
    if options.access_token is None:
        raise InvalidInput("the feed file has no access_token to fetch the leads with")
    token = options.access_token.get_secret_value()
    asked = {"fields": FIELDS}
    if options.secret is not None:
        secret = options.secret.get_secret_value().encode()
        asked["appsecret_proof"] = hmac.new(secret, token.encode(), hashlib.sha256).hexdigest()
    headers = {"Authorization": f"Bearer {token}", "User-Agent": "aiqleads"}
    found: list[dict[str, Any]] = []
    missing: list[str] = []
    with httpx.Client(timeout=_TIMEOUT, headers=headers, follow_redirects=False) as client:
        for number, leadgen_id in enumerate(ids):
            take_turn(urlsplit(base).netloc, options.requests_per_second)
            try:
                found.append(_lead(client, f"{base}/{quote(leadgen_id, safe='')}", asked))
            except _RefusedError as error:
                missing.append(str(error))
                if error.stop:
                    missing += ["not asked for"] * (len(ids) - number - 1)
                    break
    return Answers(tuple(found), tuple(missing))


def _lead(client: httpx.Client, url: str, asked: dict[str, str]) -> dict[str, Any]:
    """One lead object; _RefusedError without anything of the answer but its codes."""
    try:
        with client.stream("GET", url, params=asked) as response:
            body = b""
            for part in response.iter_bytes():
                body += part
                if len(body) > _MOST_BYTES:
                    raise _RefusedError("an answer of more than a megabyte", stop=False)
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _RefusedError(type(error).__name__, stop=True) from error
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    if status != 200:
        raise _RefusedError(f"HTTP {status}{_code(told)}", stop=status in _STOP)
    if not isinstance(told, dict) or not isinstance(told.get("field_data"), list):
        raise _RefusedError("an answer without field_data", stop=False)
    return told


def _code(told: object) -> str:
    """The code of Graph's error object, which says what the status does not."""
    error = told.get("error") if isinstance(told, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return f", Graph error {code}" if isinstance(code, int) else ""
