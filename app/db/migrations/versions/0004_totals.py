"""Events are counted for /metrics, purged ones included; one that tells of a mail knows how long that took.

The column may be empty: processes of the version before go on while this runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("recovery_event", sa.Column("seconds", sa.Double(), nullable=True))
    total = op.create_table(
        "event_total",
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("within", sa.Double(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "reason", "within", name="pk_event_total"),
    )
    op.bulk_insert(total, [{"kind": "", "reason": "", "within": 0.0, "count": 0, "seconds": 0.0}])


def downgrade() -> None:
    op.drop_table("event_total")
    op.drop_column("recovery_event", "seconds")
