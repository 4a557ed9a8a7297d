"""A link knows when it was first opened, an event the request it came from; mails can be counted.

The columns may be empty: processes of the version before go on while this runs. Links that it mailed are not
known any more: their look-up has a key now.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reset_link", sa.Column("opened_at", sa.DateTime(), nullable=True))
    op.create_index("ix_outbox_message_user_id_settled_at", "outbox_message", ["user_id", "settled_at"])
    op.create_index("ix_reset_link_issued_at", "reset_link", ["issued_at"])
    op.create_index("ix_recovery_event_kind_at", "recovery_event", ["kind", "at"])
    op.add_column("recovery_event", sa.Column("request_id", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("recovery_event", "request_id")
    op.drop_index("ix_recovery_event_kind_at", "recovery_event")
    op.drop_index("ix_reset_link_issued_at", "reset_link")
    op.drop_index("ix_outbox_message_user_id_settled_at", "outbox_message")
    op.drop_column("reset_link", "opened_at")
