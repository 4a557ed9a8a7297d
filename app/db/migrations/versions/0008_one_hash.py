"""A link remembers who redeemed it and what it wrote; an account remembers a password that was withdrawn."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("user", sa.Column("withdrawn_password", sa.String(255)))
    op.add_column("reset_link", sa.Column("redeemed_by", sa.String(64)))
    op.add_column("reset_link", sa.Column("password_written", sa.String(64)))


def downgrade() -> None:
    op.drop_column("reset_link", "password_written")
    op.drop_column("reset_link", "redeemed_by")
    op.drop_column("user", "withdrawn_password")
