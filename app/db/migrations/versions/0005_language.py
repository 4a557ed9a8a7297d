"""An account has a language, in which its mails are written.

The column may be empty: processes of the version before go on while this runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("user", sa.Column("language", sa.String(length=20), nullable=True))


def downgrade() -> None:
    op.drop_column("user", "language")
