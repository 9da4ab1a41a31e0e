"""How a person is reached: e-mails and phones in the one form that everything compares.

Phones are read by `phonenumbers` (region US), e-mails by `email-validator` without DNS; the
short cuts for common forms give the answers of the plain libraries (a property test holds
them to it). Whatever a feed, an agent's address book or an operator's list writes, the same
contact gives the same keys. Nothing here loads pandas: the serving worker reads contacts too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

_POSSIBLE = "phone possible but not assigned"
_NO_PHONE = "phone not readable"

# Forms of a US number that are read without the library, by its own tables of assigned
# numbers; every other form goes to the library.
US_PHONE = re.compile(
    r"(?:\+?1[-. ]?)?(?:\(([2-9][0-9]{2})\) ?|([2-9][0-9]{2})[-. ]?)([2-9][0-9]{2})[-. ]?([0-9]{4})"
)
_FLOAT_END = re.compile(r"\A([0-9]{10,11})\.0\Z")  # of a column that pandas took for numbers
_EXPORT_MARK = re.compile(r"\Ap:\s*")  # Meta's CSV writes p:+1419.. and z:43604
_PLAIN_EMAIL = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9.-]+")
_SPACE = re.compile(r"[\s\u200b\ufeff]+")
_TAG = re.compile(r"\+[^@]*(?=@)")
_NO_DIGIT = re.compile(r"\D")
_PHONE_DIGITS = 10

#: no contact is longer; such texts are nobody's, and some readers take long over them
LONGEST = 300


def one_line(value: object) -> str | None:
    """A value as one trimmed line, None for nothing at all."""
    if value is None or value != value:  # None or NaN
        return None
    text = value if isinstance(value, str) else str(value)
    # isprintable is false for line ends, control bytes and no-break spaces alike.
    if not text.isprintable() or "  " in text or text[:1] == " " or text[-1:] == " ":
        text = _SPACE.sub(" ", text)
        text = "".join(each for each in text if each.isprintable()).strip()
    return text or None


# ---------------------------------------------------------------------------- phones


@cache
def _assigned() -> Callable[[str], object]:
    """Full match of ten digits with what the library's tables call valid under +1.

    A region that names its area codes owns them; the others are told by their own patterns.
    """
    import phonenumbers

    valid = []
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[1]:
        table: Any = phonenumbers.PhoneMetadata.metadata_for_region(region)
        kinds = (
            *(table.fixed_line, table.mobile, table.toll_free, table.premium_rate),
            *(table.shared_cost, table.personal_number, table.voip, table.pager, table.uan),
            table.voicemail,
        )
        known = [kind.national_number_pattern for kind in kinds if kind is not None]
        either = "|".join(f"(?:{pattern})" for pattern in known if pattern)
        general = table.general_desc.national_number_pattern
        own = f"(?={table.leading_digits})" if table.leading_digits else ""
        valid.append(f"{own}(?=(?:{general})\\Z)(?:{either})")
    return re.compile("|".join(valid)).fullmatch


def read_phone(text: str) -> tuple[str | None, str]:
    """E.164 (None: not readable) and what is odd about it ('': nothing)."""
    usual = US_PHONE.fullmatch(text)
    if usual is None:
        return plain_phone(text)
    one, other, middle, line = usual.groups()
    digits = (one or other) + middle + line
    return "+1" + digits, "" if _assigned()(digits) else _POSSIBLE


@lru_cache(maxsize=8_192)
def plain_phone(text: str) -> tuple[str | None, str]:
    """read_phone by the library alone."""
    import phonenumbers

    try:
        number = phonenumbers.parse(text, "US")
    except phonenumbers.NumberParseException:
        return None, _NO_PHONE
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if phonenumbers.is_valid_number(number):
        return written, ""
    if phonenumbers.is_possible_number(number):
        return written, _POSSIBLE
    return None, _NO_PHONE


# ---------------------------------------------------------------------------- e-mails


def read_email(text: str) -> str | None:
    """One address in the form it is compared in, None where it cannot be one.

    Host names are case-blind by RFC 1035 and become lower case; local parts are compared
    by no provider of note with case, so theirs do as well, unless they are quoted.
    """
    if len(text) <= 64 and _PLAIN_EMAIL.fullmatch(text):
        local, _, domain = text.partition("@")
        known = _domain(domain)
        return f"{local.lower()}@{known}" if known is not None else None
    return plain_email(text)


def plain_email(text: str) -> str | None:
    """read_email by the library alone."""
    from email_validator import EmailNotValidError, validate_email

    try:
        local, _, domain = validate_email(text, check_deliverability=False).normalized.rpartition(
            "@"
        )
    except EmailNotValidError:
        return None
    return f"{local if local.startswith(chr(34)) else local.lower()}@{domain}"


@lru_cache(maxsize=65_536)
def _domain(domain: str) -> str | None:
    whole = plain_email("a@" + domain)
    return None if whole is None else whole.removeprefix("a@")


def emails_in(text: str) -> list[str]:
    """The addresses of a field that may hold several, each in the form it is compared in."""
    text = text[:LONGEST]
    found = read_email(text)
    if found is not None:
        return [found]
    parts = re.split(r"[\s,;<>]+|mailto:", text)
    return list(dict.fromkeys(each for each in map(read_email, filter(None, parts)) if each))


def bare_phone(text: str) -> str:
    """A phone without the marks that exports put around it."""
    return _FLOAT_END.sub(r"\1", _EXPORT_MARK.sub("", text[:LONGEST]))


# ---------------------------------------------------------------------------- keys


def plain(text: str) -> str:
    """Lower case without accents."""
    if text.isascii():
        return text.lower()
    spread = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in spread if not unicodedata.combining(letter))


def email_of(text: str) -> str:
    """The e-mail without case and +tag."""
    return _TAG.sub("", plain(text.strip()))


def phone_of(text: str) -> str:
    """The last ten digits, '' where there are fewer."""
    digits = _NO_DIGIT.sub("", text)[-_PHONE_DIGITS:]
    return digits if len(digits) == _PHONE_DIGITS else ""


def email_key(email: str) -> str:
    """Key of an e-mail in one writing, '' for none."""
    return f"e|{email}" if email else ""


def phone_key(phone: str) -> str:
    """Key of a phone number of ten digits, '' for none."""
    return f"p|{phone}" if phone else ""


def contact_keys(text: str) -> list[str]:
    """The keys of one contact as a person or a file writes it: an e-mail, else a phone.

    The same that an ingest gives a lead with this contact; none where it is neither.
    """
    line = one_line(text)
    if line is None:
        return []
    if "@" in line:
        # Of a field with several addresses an ingest compares the first.
        return [email_key(email_of(each)) for each in emails_in(line)[:1]]
    phone, _ = read_phone(bare_phone(line))
    key = phone_key(phone_of(phone or ""))
    return [key] if key else []
