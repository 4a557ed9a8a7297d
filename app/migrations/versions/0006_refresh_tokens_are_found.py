"""Refresh tokens are found by their account and by their end, and passkeys by their account.

Processes of the version before go on while this runs.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_fs_refresh_user_id", "fs_refresh", ["user_id"])
    op.create_index("ix_fs_refresh_expires_at", "fs_refresh", ["expires_at"])
    op.create_index("ix_webauthn_user_id", "webauthn", ["user_id"])


def downgrade() -> None:
    op.drop_index("ix_webauthn_user_id", "webauthn")
    op.drop_index("ix_fs_refresh_expires_at", "fs_refresh")
    op.drop_index("ix_fs_refresh_user_id", "fs_refresh")
