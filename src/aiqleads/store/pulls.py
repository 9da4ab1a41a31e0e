"""Where the pull of each source's address stands: table `pull_state`."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from aiqleads.store.tables import pull_state


@dataclass(frozen=True)
class Pull:
    """What is known of one address that a source is pulled from.

    next_url: the page to go on from; None once the last pull was finished. pages: taken of
    the pull under way, or by the last one. etag, last_modified: what the host said of the
    first page. pulled_us: wall clock of the last page.
    """

    pages: int
    pulled_us: int
    next_url: str | None = None
    etag: str | None = None
    last_modified: str | None = None


def find(connection: Connection, source: str, url: str) -> Pull | None:
    """How the pull stands; None for an address that was never pulled."""
    wanted = (pull_state.c.source == source) & (pull_state.c.url == url)
    row = connection.execute(select(pull_state).where(wanted)).one_or_none()
    if row is None:
        return None
    return Pull(row.pages, row.pulled_us, row.next_url, row.etag, row.last_modified)


def keep(connection: Connection, source: str, url: str, pull: Pull) -> None:
    """Writes how the pull stands now, in the place of what was known."""
    wanted = (pull_state.c.source == source) & (pull_state.c.url == url)
    connection.execute(delete(pull_state).where(wanted))
    connection.execute(
        pull_state.insert().values(
            source=source,
            url=url,
            etag=pull.etag,
            last_modified=pull.last_modified,
            next_url=pull.next_url,
            pages=pull.pages,
            pulled_us=pull.pulled_us,
        )
    )
