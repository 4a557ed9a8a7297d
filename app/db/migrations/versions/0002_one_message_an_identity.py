"""Requests that ask for the same meet in one message; a worker says what keeps it from sending.

Both columns may be empty: processes of the version before go on while this runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox_message", sa.Column("same", sa.String(length=64), nullable=True))
    untried = sa.text("state = 'waiting' AND attempts = 0")
    op.create_index(
        "uq_outbox_message_same",
        "outbox_message",
        ["same"],
        unique=True,
        sqlite_where=untried,
        postgresql_where=untried,
    )
    op.add_column("worker_sign", sa.Column("trouble", sa.String(length=255), nullable=True))


def downgrade() -> None:
    op.drop_column("worker_sign", "trouble")
    op.drop_index("uq_outbox_message_same", "outbox_message")
    op.drop_column("outbox_message", "same")
