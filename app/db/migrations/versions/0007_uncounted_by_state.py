"""What goes out over the budget of all is found by its index on SQLite, too: that begins with the state.

Processes of the version before go on while this runs, and after it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NAME = "ix_outbox_message_uncounted"
TRIED_OR_WITHOUT_LINK = "(attempts > 0 OR kind NOT IN ('reset_instructions', 'registration'))"


def upgrade() -> None:
    _make_anew(["state", "due_at"], f"settled_at IS NULL AND {TRIED_OR_WITHOUT_LINK}")


def downgrade() -> None:
    _make_anew(["due_at"], f"state = 'waiting' AND {TRIED_OR_WITHOUT_LINK}")


def _make_anew(columns: list[str], which: str) -> None:
    op.drop_index(NAME, "outbox_message")
    rows = sa.text(which)
    op.create_index(NAME, "outbox_message", columns, sqlite_where=rows, postgresql_where=rows)
