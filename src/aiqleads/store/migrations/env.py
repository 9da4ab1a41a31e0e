"""Alembic's entry: runs one room's revisions on the connection that `database` gives."""

from __future__ import annotations

from alembic import context

from aiqleads.store.tables import commerce_metadata, leads_metadata, vault_metadata

room = context.config.attributes["room"]
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata={
        "leads": leads_metadata,
        "vault": vault_metadata,
        "commerce": commerce_metadata,
    }[room],
    version_table=f"alembic_version_{room}",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
