"""Refresh tokens are found by their account and by their end, passkeys by their account, and mails that wait
by how long they do, and by whether they go out over the budget of all.

Processes of the version before go on while this runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


UNTRIED = sa.text("state = 'waiting' AND attempts = 0")
UNCOUNTED = sa.text(
    "state = 'waiting' AND (attempts > 0 OR kind NOT IN ('reset_instructions', 'registration'))"
)


def upgrade() -> None:
    for name, column, which in (("untried", "created_at", UNTRIED), ("uncounted", "due_at", UNCOUNTED)):
        op.create_index(
            f"ix_outbox_message_{name}",
            "outbox_message",
            [column],
            sqlite_where=which,
            postgresql_where=which,
        )
    op.create_index("ix_fs_refresh_user_id", "fs_refresh", ["user_id"])
    op.create_index("ix_fs_refresh_expires_at", "fs_refresh", ["expires_at"])
    op.create_index("ix_webauthn_user_id", "webauthn", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_outbox_message_uncounted", "outbox_message")
    op.drop_index("ix_outbox_message_untried", "outbox_message")
    op.drop_index("ix_webauthn_user_id", "webauthn")
    op.drop_index("ix_fs_refresh_expires_at", "fs_refresh")
    op.drop_index("ix_fs_refresh_user_id", "fs_refresh")
