"""Who pushed this: the proof of each sender, checked over the body as it came.

    hmac      ours: X-AIQLeads-Signature: t=<unix seconds>,v1=<hex of HMAC-SHA256 of
              "<t>.<body>">, at most five minutes old; v1 may come twice while a secret is
              being changed. X-AIQLeads-Delivery may name the delivery.
    meta      X-Hub-Signature-256: sha256=<hex of HMAC-SHA256 of the body under the app
              secret>; a subscription is confirmed by GET with hub.mode, hub.verify_token
              and hub.challenge
              (developers.facebook.com/docs/graph-api/webhooks/getting-started).
    google    google_key in the JSON body is the key that the form was given
              (developers.google.com/google-ads/webhook/docs/implementation).
    linkedin  X-LI-Signature: HMAC-SHA256 in hex under the client secret; an address is
              confirmed by GET with challengeCode, answered with its HMAC
              (learn.microsoft.com/linkedin/shared/api-guide/webhook-validation).

Secrets are compared in constant time. A source that the feed file gives no secret is
closed. Nothing here loads pandas: the serving worker asks this module before it keeps a
body.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import SecretStr

from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import AccessDenied, InvalidInput, UnknownName
from aiqleads.ingest.feeds import Options

Proof = Literal["hmac", "meta", "google", "linkedin"]

#: the proof of a source whose feed file names none; all others sign with ours
_OWN: dict[str, Proof] = {
    "meta_leads": "meta",
    "google_leads": "google",
    "linkedin_leads": "linkedin",
}
TOLERANCE_US = 300 * US_PER_SECOND
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+/=-]{0,63}")
_TEXT = re.compile(r"[A-Za-z0-9._~-]{1,200}")
# LinkedIn's codes are UUIDs. Any text would be signed for whoever asks, a forged body too.
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGITS = 15


def proof_of(source: str, options: Options | None) -> tuple[Proof, str]:
    """How a source proves its origin, and its secret.

    UnknownName (404) where the feed file does not open it for pushes.
    """
    secret = options.secret.get_secret_value() if options and options.secret else ""
    if options is None or not secret:
        raise UnknownName(f"no feed '{source[:40]}' is open for pushes")
    return options.proof or _OWN.get(source, "hmac"), secret


def delivery_of(
    source: str,
    options: Options | None,
    headers: Mapping[str, str],
    body: bytes,
    now_us: int,
) -> str:
    """The name of a delivery whose origin is proved, at most 120 characters.

    It is the sender's (lead_id, leadgen_ids, notificationId, X-AIQLeads-Delivery) with a
    digest of the body, as a name used for two bodies must lose neither; of a body without
    a name the digest alone. headers: any case. now_us: wall clock. UnknownName (404) for a
    source that is not open, AccessDenied (403) for one that did not send this.
    """
    proof, text = proof_of(source, options)
    secret = text.encode()
    given = {name.lower(): value for name, value in headers.items()}
    digest = hashlib.sha256(body).hexdigest()
    match proof:
        case "hmac":
            _check_ours(given.get("x-aiqleads-signature", ""), secret, body, now_us)
            name = given.get("x-aiqleads-delivery", "")
            if name and not _NAME.fullmatch(name):
                raise InvalidInput("X-AIQLeads-Delivery is at most 64 letters, digits or ._:+/=-")
        case "meta":
            _check_meta(given.get("x-hub-signature-256", ""), secret, body)
            # A notification says nothing but which leads there are.
            if ids := _leadgen_ids(_json(body)):
                return f"leadgen:{hashlib.sha256(' '.join(sorted(ids)).encode()).hexdigest()}"
            name = ""
        case "google":
            told = _json(body)
            _check_google(told, secret)
            name = _named(told, "lead_id")
        case "linkedin":
            _check_linkedin(given.get("x-li-signature", ""), secret, body)
            name = _named(_json(body), "notificationId")
    return f"{name}:{digest[:32]}" if name else digest


def challenge_answer(
    source: str, options: Options | None, query: Mapping[str, str]
) -> dict[str, str] | str:
    """What a sender's verification GET is answered: a text (Meta) or JSON (LinkedIn).

    UnknownName (404) for a source that is not open or whose sender asks for none,
    AccessDenied (403) for a wrong token, InvalidInput (422) for an unusual challenge.
    """
    proof, secret = proof_of(source, options)
    if proof == "meta":
        return _meta_challenge(options.verify_token if options else None, query)
    if proof == "linkedin":
        return _linkedin_challenge(secret, query)
    raise UnknownName(f"the feed '{source[:40]}' takes pushes only")


def signature(secret: str, body: bytes, now_us: int) -> str:
    """The header X-AIQLeads-Signature of a body: what our own senders put there."""
    at = now_us // US_PER_SECOND
    return f"t={at},v1={_hex(secret.encode(), f'{at}.'.encode() + body)}"


def _denied(why: str) -> AccessDenied:
    return AccessDenied(why, status=403)


def _hex(secret: bytes, message: bytes) -> str:
    return hmac.new(secret, message, hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    # As bytes: compare_digest takes no text beyond ASCII, and a header may hold any.
    return hmac.compare_digest(given.encode(), wanted.encode())


def _check_ours(header: str, secret: bytes, body: bytes, now_us: int) -> None:
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == "v1"]
    if len(times) != 1 or not given:
        raise _denied("a push is signed: X-AIQLeads-Signature: t=<seconds>,v1=<hex>")
    at = times[0]
    if not (at.isascii() and at.isdigit() and len(at) <= _DIGITS):
        raise _denied("X-AIQLeads-Signature: t is a time in whole seconds")
    if abs(int(at) * US_PER_SECOND - now_us) > TOLERANCE_US:
        raise _denied("X-AIQLeads-Signature: t lies more than five minutes from now")
    wanted = _hex(secret, f"{at}.".encode() + body)
    if not any(_same(value, wanted) for value in given):
        raise _denied("the signature is not of this body under this source's secret")


def _check_meta(header: str, secret: bytes, body: bytes) -> None:
    if not _same(header, f"sha256={_hex(secret, body)}"):
        raise _denied("X-Hub-Signature-256 is not of this body under the app's secret")


def _check_google(told: object, secret: bytes) -> None:
    given = told.get("google_key") if isinstance(told, dict) else None
    if not isinstance(given, str) or not hmac.compare_digest(
        given.encode("utf-8", "surrogatepass"), secret
    ):
        raise _denied("google_key is not the key of this source")


def _check_linkedin(header: str, secret: bytes, body: bytes) -> None:
    """Either reading of its documentation, which says "prefixed by hmacsha256=": senders
    put the prefix before the body that is signed, or before the signature."""
    given = header.removeprefix("hmacsha256=").lower()
    prefixed, plain = _hex(secret, b"hmacsha256=" + body), _hex(secret, body)
    if not _same(given, prefixed) | _same(given, plain):
        raise _denied("X-LI-Signature is not of this body under the client's secret")


def _meta_challenge(token: SecretStr | None, query: Mapping[str, str]) -> str:
    given = query.get("hub.verify_token", "")
    if token is None or not _same(given, token.get_secret_value()):
        raise _denied("hub.verify_token is not the one of this source")
    challenge = query.get("hub.challenge", "")
    if query.get("hub.mode") != "subscribe" or not _TEXT.fullmatch(challenge):
        raise InvalidInput("a verification has hub.mode=subscribe and hub.challenge")
    return challenge


def _linkedin_challenge(secret: str, query: Mapping[str, str]) -> dict[str, str]:
    code = query.get("challengeCode", "")
    if not _UUID.fullmatch(code):
        raise InvalidInput("challengeCode is a UUID")
    response = _hex(secret.encode(), code.encode())
    return {"challengeCode": code, "challengeResponse": response}


def _json(body: bytes) -> Any:
    """The body as JSON; None for what is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _named(told: object, field: str) -> str:
    given = told.get(field) if isinstance(told, dict) else None
    name = str(given) if isinstance(given, str | int) else ""
    return name if _NAME.fullmatch(name) else ""


def _leadgen_ids(told: object) -> list[str]:
    return [
        str(change["value"]["leadgen_id"])
        for entry in _objects(told, "entry")
        for change in _objects(entry, "changes")
        if change.get("field") == "leadgen"
        and isinstance(change.get("value"), dict)
        and isinstance(change["value"].get("leadgen_id"), str | int)
    ]


def _objects(told: object, name: str) -> list[dict[str, Any]]:
    """The objects of an array, none where there is no array."""
    found = told.get(name) if isinstance(told, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
