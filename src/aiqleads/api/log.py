"""Log lines of the service: on stderr, for machines or for people."""

from __future__ import annotations

import sys

import structlog

from aiqleads.settings import Settings


def configure(settings: Settings) -> None:
    """Sends the log to stderr in the settings' format; nothing that is logged is private."""
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            last,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
