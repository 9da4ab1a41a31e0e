"""Headers and texts of mails that anybody may have sent.

The email package's newer rules take the better part of a minute to take a hostile header
of 100 kB apart, or run out of stack. So headers are read here by its older, plain rules,
and no further than a header of use goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from email.policy import compat32

#: characters of a header that are looked at
_LONGEST = 1_000


def header(mail: EmailMessage, name: str) -> str:
    """The first header of that name in one line, its encoded words decoded; '' for none."""
    wanted = name.lower()
    raw = next((value for key, value in mail.raw_items() if key.lower() == wanted), "")
    # Bytes beyond ASCII come as surrogates; they are UTF-8 where anybody says so at all.
    whole = str(raw)[:_LONGEST].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    line = " ".join(whole.split())
    with suppress(ValueError, LookupError):  # encoded words of no known character set
        line = str(make_header(decode_header(line)))
    return line.encode("utf-8", "replace").decode()


def address(mail: EmailMessage, name: str) -> str:
    """The first e-mail address in a header, '' where there is none."""
    line = header(mail, name)
    found = re.search(r"<([^<>\s]+@[^<>\s]+)>", line) or re.search(r"([^\s<>,;]+@[^\s<>,;]+)", line)
    return found[1] if found else ""


def texts(mail: EmailMessage) -> Iterator[tuple[str, str]]:
    """Content type and text of each part that is no container, in order; also of attachments.

    Texts in an unknown character set are read as UTF-8. Other parts than text and XML have
    ''. The mail's headers are read by the plain rules from then on.
    """
    for part in mail.walk():
        _simplify(part)
        if not part.is_multipart():
            kind = part.get_content_type()
            readable = kind.startswith("text/") or kind.endswith("xml")
            yield kind, _text(part) if readable else ""


def _simplify(part: Message) -> None:
    """Lets a part's headers be read by the plain rules, and cuts those that are endless."""
    kept = [(name, str(value)[:_LONGEST]) for name, value in part.raw_items()]
    part.policy = compat32
    for name in {name for name, _ in kept}:
        del part[name]
    for name, value in kept:
        part[name] = value


def _text(part: Message) -> str:
    try:
        given = part.get_payload(decode=True)
    except (ValueError, LookupError):
        return ""
    if not isinstance(given, bytes):
        return ""
    try:
        return given.decode(part.get_content_charset() or "utf-8", "replace")
    except (LookupError, ValueError):
        return given.decode("utf-8", "replace")
