"""The first tables: Flask-Security's complete model, the outbox, reset links, events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "role",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=True),
        sa.Column("permissions", sa.UnicodeText(), nullable=True),
        sa.Column("update_datetime", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_role"),
        sa.UniqueConstraint("name", name="uq_role_name"),
    )
    op.create_table(
        "used_code",
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.Column("counter", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("secret", name="pk_used_code"),
    )
    op.create_table(
        "user",
        sa.Column("withdrawn_password", sa.String(length=255), nullable=True),
        sa.Column("language", sa.String(length=20), nullable=True),
        sa.Column("contested_email", sa.String(length=255), nullable=True),
        sa.Column("contested_at", sa.DateTime(), nullable=True),
        sa.Column("second_email", sa.String(length=255), nullable=True),
        sa.Column("invited_at", sa.DateTime(), nullable=True),
        sa.Column("external_id", sa.String(length=255), nullable=True),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("username", sa.String(length=255), nullable=True),
        sa.Column("password", sa.String(length=255), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("fs_uniquifier", sa.String(length=64), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(), nullable=True),
        sa.Column("last_login_at", sa.DateTime(), nullable=True),
        sa.Column("current_login_at", sa.DateTime(), nullable=True),
        sa.Column("last_login_ip", sa.String(length=64), nullable=True),
        sa.Column("current_login_ip", sa.String(length=64), nullable=True),
        sa.Column("login_count", sa.Integer(), nullable=True),
        sa.Column("tf_primary_method", sa.String(length=64), nullable=True),
        sa.Column("tf_totp_secret", sa.String(length=255), nullable=True),
        sa.Column("tf_phone_number", sa.String(length=128), nullable=True),
        sa.Column("us_totp_secrets", sa.Text(), nullable=True),
        sa.Column("us_phone_number", sa.String(length=128), nullable=True),
        sa.Column("fs_webauthn_user_handle", sa.String(length=64), nullable=True),
        sa.Column("mf_recovery_codes", sa.UnicodeText(), nullable=True),
        sa.Column("create_datetime", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.Column("update_datetime", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_user"),
        sa.UniqueConstraint("email", name="uq_user_email"),
        sa.UniqueConstraint("fs_uniquifier", name="uq_user_fs_uniquifier"),
        sa.UniqueConstraint("fs_webauthn_user_handle", name="uq_user_fs_webauthn_user_handle"),
        sa.UniqueConstraint("us_phone_number", name="uq_user_us_phone_number"),
        sa.UniqueConstraint("username", name="uq_user_username"),
    )
    op.create_index("uq_user_external_id", "user", ["external_id"], unique=True)
    op.create_index("uq_user_email_lower", "user", [sa.literal_column("lower(email)")], unique=True)
    op.create_index("uq_user_username_lower", "user", [sa.literal_column("lower(username)")], unique=True)
    op.create_table(
        "identity_column",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_identity_column"),
    )
    op.create_table(
        "worker_heartbeat",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("seen_at", sa.DateTime(), nullable=False),
        sa.Column("trouble", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("name", name="pk_worker_heartbeat"),
    )
    op.create_table(
        "signed_out",
        sa.Column("id", sa.String(length=22), nullable=False),
        sa.Column("ends_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_signed_out"),
    )
    op.create_index("ix_signed_out_ends_at", "signed_out", ["ends_at"], unique=False)
    op.create_table(
        "fs_refresh",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("refresh_family", sa.String(length=64), nullable=False),
        sa.Column("gen", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=False),
        sa.Column("create_datetime", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_fs_refresh_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_fs_refresh"),
        sa.UniqueConstraint("refresh_family", name="uq_fs_refresh_refresh_family"),
    )
    op.create_index("ix_fs_refresh_expires_at", "fs_refresh", ["expires_at"], unique=False)
    op.create_index("ix_fs_refresh_user_id", "fs_refresh", ["user_id"], unique=False)
    op.create_table(
        "outbox_message",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=True),
        sa.Column("nonce", sa.LargeBinary(length=32), nullable=False),
        sa.Column("message_id", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim", sa.String(length=32), nullable=True),
        sa.Column("same", sa.String(length=64), nullable=True),
        sa.Column("quota", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("due_at", sa.DateTime(), nullable=False),
        sa.Column("settled_at", sa.DateTime(), nullable=True),
        sa.Column("refused_at", sa.DateTime(), nullable=True),
        sa.Column("refused_domain", sa.String(length=255), nullable=True),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name="fk_outbox_message_user_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_message"),
        sa.UniqueConstraint("message_id", name="uq_outbox_message_message_id"),
    )
    op.create_index("ix_outbox_message_state_due_at", "outbox_message", ["state", "due_at"], unique=False)
    op.create_index(
        "ix_outbox_message_exempt",
        "outbox_message",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text(
            "settled_at IS NULL AND kind <> 'webhook' "
            "AND (attempts > 0 OR kind NOT IN ('registration', 'invitation')) "
            "AND (attempts > 0 OR kind <> 'reset_instructions')"
        ),
        postgresql_where=sa.text(
            "settled_at IS NULL AND kind <> 'webhook' "
            "AND (attempts > 0 OR kind NOT IN ('registration', 'invitation')) "
            "AND (attempts > 0 OR kind <> 'reset_instructions')"
        ),
    )
    op.create_index(
        "ix_outbox_message_events",
        "outbox_message",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL AND kind = 'webhook'"),
        postgresql_where=sa.text("settled_at IS NULL AND kind = 'webhook'"),
    )
    op.create_index(
        "ix_outbox_message_sign_up",
        "outbox_message",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL AND attempts = 0 AND kind = 'registration'"),
        postgresql_where=sa.text("settled_at IS NULL AND attempts = 0 AND kind = 'registration'"),
    )
    op.create_index(
        "ix_outbox_message_invited",
        "outbox_message",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text("settled_at IS NULL AND attempts = 0 AND kind = 'invitation'"),
        postgresql_where=sa.text("settled_at IS NULL AND attempts = 0 AND kind = 'invitation'"),
    )
    op.create_index(
        "ix_outbox_message_urgent",
        "outbox_message",
        ["state", "due_at"],
        unique=False,
        sqlite_where=sa.text(
            "settled_at IS NULL AND kind <> 'webhook' "
            "AND (attempts > 0 OR kind NOT IN ('registration', 'invitation'))"
        ),
        postgresql_where=sa.text(
            "settled_at IS NULL AND kind <> 'webhook' "
            "AND (attempts > 0 OR kind NOT IN ('registration', 'invitation'))"
        ),
    )
    op.create_index(
        "ix_outbox_message_untried",
        "outbox_message",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting' AND attempts = 0"),
        postgresql_where=sa.text("state = 'waiting' AND attempts = 0"),
    )
    op.create_index(
        "ix_outbox_message_refused_at",
        "outbox_message",
        ["refused_at"],
        unique=False,
        sqlite_where=sa.text("refused_at IS NOT NULL"),
        postgresql_where=sa.text("refused_at IS NOT NULL"),
    )
    op.create_index(
        "ix_outbox_message_user_id_quota_settled_at",
        "outbox_message",
        ["user_id", "quota", "settled_at"],
        unique=False,
    )
    op.create_index(
        "ix_outbox_message_quota_settled_at", "outbox_message", ["quota", "settled_at"], unique=False
    )
    op.create_index(
        "uq_outbox_message_same",
        "outbox_message",
        ["same"],
        unique=True,
        sqlite_where=sa.text("state = 'waiting' AND attempts = 0"),
        postgresql_where=sa.text("state = 'waiting' AND attempts = 0"),
    )
    op.create_table(
        "recovery_event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=True),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("source", sa.String(length=45), nullable=True),
        sa.Column("client", sa.String(length=40), nullable=True),
        sa.Column("request_id", sa.String(length=32), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user.id"], name="fk_recovery_event_user_id", ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_recovery_event"),
    )
    op.create_index("ix_recovery_event_at", "recovery_event", ["at"], unique=False)
    op.create_index("ix_recovery_event_kind_at", "recovery_event", ["kind", "at"], unique=False)
    op.create_index(
        "ix_recovery_event_code",
        "recovery_event",
        ["request_id"],
        unique=False,
        sqlite_where=sa.text("kind = 'code_entered'"),
        postgresql_where=sa.text("kind = 'code_entered'"),
    )
    op.create_index("ix_recovery_event_user_id", "recovery_event", ["user_id"], unique=False)
    op.create_table(
        "roles_users",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("role_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["role_id"], ["role.id"], name="fk_roles_users_role_id"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_roles_users_user_id"),
        sa.PrimaryKeyConstraint("user_id", "role_id", name="pk_roles_users"),
    )
    op.create_table(
        "webauthn",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("credential_id", sa.LargeBinary(length=1024), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.Integer(), nullable=True),
        sa.Column("transports", sa.UnicodeText(), nullable=True),
        sa.Column("backup_state", sa.Boolean(), nullable=False),
        sa.Column("device_type", sa.String(length=64), nullable=False),
        sa.Column("extensions", sa.String(length=255), nullable=True),
        sa.Column("create_datetime", sa.DateTime(), server_default=sa.func.now(), nullable=False),
        sa.Column("lastuse_datetime", sa.DateTime(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("usage", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_webauthn_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_webauthn"),
    )
    op.create_index("ix_webauthn_credential_id", "webauthn", ["credential_id"], unique=True)
    op.create_index("ix_webauthn_user_id", "webauthn", ["user_id"], unique=False)
    op.create_table(
        "reset_link",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("message_id", sa.Integer(), nullable=True),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("email", sa.String(length=255), nullable=False),
        sa.Column("password_state", sa.String(length=64), nullable=False),
        sa.Column("client", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=True),
        sa.Column("issued_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=True),
        sa.Column("redeemed_at", sa.DateTime(), nullable=True),
        sa.Column("redeemed_by", sa.String(length=64), nullable=True),
        sa.Column("password_written", sa.String(length=64), nullable=True),
        sa.Column("superseded_at", sa.DateTime(), nullable=True),
        sa.Column("revoked_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["outbox_message.id"], name="fk_reset_link_message_id", ondelete="SET NULL"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_reset_link_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_reset_link"),
        sa.UniqueConstraint("message_id", name="uq_reset_link_message_id"),
        sa.UniqueConstraint("token_hash", name="uq_reset_link_token_hash"),
    )
    op.create_index("ix_reset_link_kind_issued_at", "reset_link", ["kind", "issued_at"], unique=False)
    op.create_index("ix_reset_link_issued_at", "reset_link", ["issued_at"], unique=False)
    op.create_index("ix_reset_link_user_id_issued_at", "reset_link", ["user_id", "issued_at"], unique=False)
    op.create_table(
        "reset_code",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("link_id", sa.Integer(), nullable=False),
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["link_id"], ["reset_link.id"], name="fk_reset_code_link_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_reset_code"),
    )
    op.create_index("ix_reset_code_code_hash", "reset_code", ["code_hash"], unique=False)
    op.create_index("ix_reset_code_link_id", "reset_code", ["link_id"], unique=False)
    op.create_table(
        "code_request",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("requester", sa.String(length=32), nullable=False),
        sa.Column("identity", sa.String(length=32), nullable=False),
        sa.Column("is_known", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_code_request"),
    )
    op.create_index("ix_code_request_at", "code_request", ["at"], unique=False)
    op.create_index("ix_code_request_identity_at", "code_request", ["identity", "at"], unique=False)
    op.create_index("ix_code_request_requester_id", "code_request", ["requester", "id"], unique=False)


def downgrade() -> None:
    op.drop_table("code_request")
    op.drop_table("reset_code")
    op.drop_table("reset_link")
    op.drop_table("webauthn")
    op.drop_table("roles_users")
    op.drop_table("recovery_event")
    op.drop_table("outbox_message")
    op.drop_table("fs_refresh")
    op.drop_table("signed_out")
    op.drop_table("worker_heartbeat")
    op.drop_table("identity_column")
    op.drop_table("user")
    op.drop_table("used_code")
    op.drop_table("role")
