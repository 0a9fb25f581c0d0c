"""Alembic's entry: runs on the connection that `upgrade` and `downgrade` hand in."""

from alembic import context

from jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
context.run_migrations()
