"""Leads as an e-mail, or as a file that waits for its buyer's system.

Without a mail server the mails are written to a folder in the way of a maildir: into `tmp`,
then by one rename into `new`, under the event's id. Who sends the same event again writes the
same file. Folders are their owner's alone: what is in them is personal.
"""

from __future__ import annotations

import os
import re
import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from aiqleads.commerce.webhooks import Outcome
from aiqleads.domain import US_PER_SECOND
from aiqleads.errors import InvalidInput
from aiqleads.settings import Settings

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_LONGEST_ADDRESS = 254
_TIMEOUT_SECONDS = 10.0


def check_address(address: str) -> None:
    """InvalidInput for what is no e-mail address; it is not repeated."""
    if len(address) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(address):
        raise InvalidInput("that is no e-mail address")


def letter(
    settings: Settings,
    event_id: str,
    address: str,
    subject: str,
    text: str,
    attached: tuple[str, str],
    at_us: int,
) -> EmailMessage:
    """The mail of an event; attached: name and content of a CSV file, '' for none."""
    made = EmailMessage(policy=SMTP)
    made["From"] = settings.mail_from
    made["To"] = address
    made["Subject"] = subject
    made["Date"] = format_datetime(datetime.fromtimestamp(at_us // US_PER_SECOND, UTC))
    made["Message-ID"] = f"<{event_id}@{settings.mail_from.rpartition('@')[2]}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text)
    name, content = attached
    if content:
        made.add_attachment(content, subtype="csv", filename=name)
    return made


def send(settings: Settings, event_id: str, made: EmailMessage) -> Outcome:
    """Gives a mail to the mail server, or writes it to the folder where there is none."""
    if settings.smtp_host is None:
        return keep(settings, "mail", f"{event_id}.eml", made.as_bytes())
    try:
        with smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_SECONDS) as line:
            if settings.smtp_tls:
                line.starttls(context=ssl.create_default_context())
            if settings.smtp_user is not None and settings.smtp_password is not None:
                line.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            line.send_message(made)
    except smtplib.SMTPRecipientsRefused as error:
        code = max(each[0] for each in error.recipients.values())
        return Outcome(code, f"smtp-{code}")
    except smtplib.SMTPResponseException as error:
        return Outcome(error.smtp_code, f"smtp-{error.smtp_code}")
    except TimeoutError:
        return Outcome(failure="timeout")
    except (OSError, smtplib.SMTPException):
        return Outcome(failure="mail-server-unreachable")
    return Outcome()


def keep(settings: Settings, folder: str, name: str, content: bytes) -> Outcome:
    """Writes `new/<name>` of a folder below data/outgoing, whole or not at all.

    Folders and file are readable by their owner only.
    """
    here = settings.outgoing / folder
    target, part = here / "new" / name, here / "tmp" / name
    try:
        settings.outgoing.mkdir(parents=True, exist_ok=True, mode=0o700)
        for each in (here, here / "tmp", here / "new", here / "cur"):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(target)
    except OSError:
        return Outcome(failure="not-written")
    return Outcome()
