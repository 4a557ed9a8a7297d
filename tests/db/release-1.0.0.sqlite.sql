-- http://127.0.0.1:5000/reset/eNvs4VFqekvORDBEbnwDsdZrTr0jYeJu3UpjuRaja7w
BEGIN TRANSACTION;
CREATE TABLE fs_refresh (
	id INTEGER NOT NULL, 
	refresh_family VARCHAR(64) NOT NULL, 
	gen INTEGER NOT NULL, 
	expires_at DATETIME NOT NULL, 
	revoked_at DATETIME, 
	last_used_at DATETIME NOT NULL, 
	create_datetime DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	user_id INTEGER NOT NULL, 
	CONSTRAINT pk_fs_refresh PRIMARY KEY (id), 
	CONSTRAINT fk_fs_refresh_user_id FOREIGN KEY(user_id) REFERENCES user (id) ON DELETE CASCADE, 
	CONSTRAINT uq_fs_refresh_refresh_family UNIQUE (refresh_family)
);
CREATE TABLE identity_column (
	name VARCHAR(40) NOT NULL, 
	CONSTRAINT pk_identity_column PRIMARY KEY (name)
);
INSERT INTO "identity_column" VALUES('employee_number');
CREATE TABLE outbox_message (
	id INTEGER NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	sealed TEXT, 
	nonce BLOB NOT NULL, 
	message_id VARCHAR(255) NOT NULL, 
	user_id INTEGER, 
	state VARCHAR(20) NOT NULL, 
	reason VARCHAR(255), 
	attempts INTEGER NOT NULL, 
	claim VARCHAR(32), 
	same VARCHAR(64), 
	quota VARCHAR(64) NOT NULL, 
	created_at DATETIME NOT NULL, 
	due_at DATETIME NOT NULL, 
	settled_at DATETIME, 
	refused_at DATETIME, 
	refused_domain VARCHAR(255), 
	refusals INTEGER NOT NULL, 
	CONSTRAINT pk_outbox_message PRIMARY KEY (id), 
	CONSTRAINT fk_outbox_message_user_id FOREIGN KEY(user_id) REFERENCES user (id) ON DELETE SET NULL, 
	CONSTRAINT uq_outbox_message_message_id UNIQUE (message_id)
);
INSERT INTO "outbox_message" VALUES(1,'reset_instructions',NULL,X'915F77F3A0D314C878D3F50792702B4419980AE0179C6ADF4BA4574028DBDDE6','<a2ca23a9182f38883a2467dfe8a76665@127.0.0.1>',1,'sent',NULL,1,NULL,NULL,'','2026-11-29 22:07:26.515000','2026-11-29 22:11:26.595000','2026-11-29 22:07:26.844000',NULL,NULL,0);
INSERT INTO "outbox_message" VALUES(2,'reset_instructions','gAAAAABrDKIeywCOVXjuq9MjdwRiX9NXcixjiFVjM0QyUnJsaI4GyKqIFeRJmC7tw6hKL99knVe2g90dv9iek26-QTS5yR9-yv4P5B-jKfeKfgvuvd0yWGZdIUnSNIGv_W_dJB4Sn26um-YsmRSVWdUh21bQ7LRT8x9vMT8rGBC5UXkQ9lAS-RVWaaK_0fHTDIHbodLzFkzTAwgNrIJAS10-LZ2j725i7SKAuE1B1A_LAWlL9S850aI=',X'2C76D0D6A114F19D9793F26582A8B9607C97DB4E8D245E650EEB0F5CC7DF270A','<95046fd8297ed93cbc6ab603cc5c5b00@127.0.0.1>',NULL,'waiting',NULL,0,NULL,'3219566e64cdd7ff48a6417a8cdc13ba001c7e57418f3439c0ac592c3f5121f9','','2026-11-29 22:07:26.889000','2026-11-29 22:07:26.889000',NULL,NULL,NULL,0);
CREATE TABLE recovery_event (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	reason VARCHAR(255), 
	user_id INTEGER, 
	source VARCHAR(45), 
	client VARCHAR(40), 
	request_id VARCHAR(32), 
	seconds DOUBLE, 
	CONSTRAINT pk_recovery_event PRIMARY KEY (id), 
	CONSTRAINT fk_recovery_event_user_id FOREIGN KEY(user_id) REFERENCES user (id) ON DELETE SET NULL
);
INSERT INTO "recovery_event" VALUES(1,'2026-11-29 22:07:26.515000','requested','reset_instructions',NULL,'127.0.0.1','default','2982dea4614c0372',NULL);
INSERT INTO "recovery_event" VALUES(2,'2026-11-29 22:07:26.845000','mail_sent','reset_instructions',1,NULL,NULL,'a2ca23a9182f38883a2467dfe8a76665',0.329);
INSERT INTO "recovery_event" VALUES(3,'2026-11-29 22:07:26.889000','requested','reset_instructions',NULL,'127.0.0.1','default','3eba74afc4c40584',NULL);
CREATE TABLE reset_link (
	id INTEGER NOT NULL, 
	user_id INTEGER NOT NULL, 
	message_id INTEGER, 
	token_hash VARCHAR(64) NOT NULL, 
	email VARCHAR(255) NOT NULL, 
	password_state VARCHAR(64) NOT NULL, 
	client VARCHAR(40) NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	username VARCHAR(64), 
	issued_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, 
	opened_at DATETIME, 
	redeemed_at DATETIME, 
	redeemed_by VARCHAR(64), 
	password_written VARCHAR(64), 
	superseded_at DATETIME, 
	revoked_at DATETIME, 
	CONSTRAINT pk_reset_link PRIMARY KEY (id), 
	CONSTRAINT fk_reset_link_message_id FOREIGN KEY(message_id) REFERENCES outbox_message (id) ON DELETE SET NULL, 
	CONSTRAINT fk_reset_link_user_id FOREIGN KEY(user_id) REFERENCES user (id) ON DELETE CASCADE, 
	CONSTRAINT uq_reset_link_message_id UNIQUE (message_id), 
	CONSTRAINT uq_reset_link_token_hash UNIQUE (token_hash)
);
INSERT INTO "reset_link" VALUES(1,1,1,'63430ec8c1683b56cecedeb30a0eb655e41c036604f7bbfe828fc2af25ea30c8','alice@example.com','096d3b219091648d3eec608a0c35a62735d26b496df88dd0d577f416afba68ce','default','reset_instructions',NULL,'2026-11-29 22:07:26.765000','2026-11-29 23:07:26.765000',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE role (
	id INTEGER NOT NULL, 
	name VARCHAR(80) NOT NULL, 
	description VARCHAR(255), 
	permissions TEXT, 
	update_datetime DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	CONSTRAINT pk_role PRIMARY KEY (id), 
	CONSTRAINT uq_role_name UNIQUE (name)
);
CREATE TABLE roles_users (
	user_id INTEGER NOT NULL, 
	role_id INTEGER NOT NULL, 
	CONSTRAINT pk_roles_users PRIMARY KEY (user_id, role_id), 
	CONSTRAINT fk_roles_users_role_id FOREIGN KEY(role_id) REFERENCES role (id), 
	CONSTRAINT fk_roles_users_user_id FOREIGN KEY(user_id) REFERENCES user (id)
);
CREATE TABLE signed_out (
	id VARCHAR(22) NOT NULL, 
	ends_at DATETIME NOT NULL, 
	CONSTRAINT pk_signed_out PRIMARY KEY (id)
);
CREATE TABLE sparekey_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT sparekey_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "sparekey_version" VALUES('0001');
CREATE TABLE used_code (
	secret VARCHAR(64) NOT NULL, 
	counter INTEGER NOT NULL, 
	CONSTRAINT pk_used_code PRIMARY KEY (secret)
);
CREATE TABLE user (
	withdrawn_password VARCHAR(255), 
	language VARCHAR(20), 
	contested_email VARCHAR(255), 
	contested_at DATETIME, 
	invited_at DATETIME, 
	external_id VARCHAR(255), 
	id INTEGER NOT NULL, 
	email VARCHAR(255) NOT NULL, 
	username VARCHAR(255), 
	password VARCHAR(255), 
	active BOOLEAN NOT NULL, 
	fs_uniquifier VARCHAR(64) NOT NULL, 
	confirmed_at DATETIME, 
	last_login_at DATETIME, 
	current_login_at DATETIME, 
	last_login_ip VARCHAR(64), 
	current_login_ip VARCHAR(64), 
	login_count INTEGER, 
	tf_primary_method VARCHAR(64), 
	tf_totp_secret VARCHAR(255), 
	tf_phone_number VARCHAR(128), 
	us_totp_secrets TEXT, 
	us_phone_number VARCHAR(128), 
	fs_webauthn_user_handle VARCHAR(64), 
	mf_recovery_codes TEXT, 
	create_datetime DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	update_datetime DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, employee_number VARCHAR(255), 
	CONSTRAINT pk_user PRIMARY KEY (id), 
	CONSTRAINT uq_user_email UNIQUE (email), 
	CONSTRAINT uq_user_fs_uniquifier UNIQUE (fs_uniquifier), 
	CONSTRAINT uq_user_fs_webauthn_user_handle UNIQUE (fs_webauthn_user_handle), 
	CONSTRAINT uq_user_us_phone_number UNIQUE (us_phone_number), 
	CONSTRAINT uq_user_username UNIQUE (username)
);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,1,'alice@example.com','alice','$argon2id$v=19$m=19456,t=2,p=1$2HsvhVBqzXnPufeec85Ziw$YPy4s9Kgy4MxnkR+vGgOklmpe9H5z37Ehxbh2aKXPNA',1,'9a6ee72cc69342d09b5f7e446f2cab61',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'+14155550123','a3069433cd994c428c73795f588789e6',NULL,'2026-11-29 22:07:26','2026-11-29 22:07:26',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,2,'bob@example.com','bob','$argon2id$v=19$m=19456,t=2,p=1$uXcOYcwZoxSidG6t1dp7jw$ml6lGtPt+ZplGKnmqWQvrmBn5EnnOnHbcx7UGrVpkBM',1,'f58d7bcfa98946d491976744fcb44dd7',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'+14155550124','b0c74e365ef14a399070d26d0001bbac',NULL,'2026-11-29 22:07:26','2026-11-29 22:07:26',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,3,'inactive@example.com',NULL,'$argon2id$v=19$m=19456,t=2,p=1$uPd+L4WwlvIeIwRgbI0xJg$Ga4wGEtExoTwod/U9pmhqN8/k31Fe/ZIrDWokPlHf3A',0,'00fc5271d9cf47efbe3f7864cc6e4c8f',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'6cf61fe9195846a2b9608426872605cf',NULL,'2026-11-29 22:07:26','2026-11-29 22:07:26',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,4,'sso@example.com',NULL,NULL,1,'ec11e231f81e47c79406f81687a663d5',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'64bf3010afaa49e68926b3024efbb003',NULL,'2026-11-29 22:07:26','2026-11-29 22:07:26',NULL);
CREATE TABLE webauthn (
	id INTEGER NOT NULL, 
	credential_id BLOB NOT NULL, 
	public_key BLOB NOT NULL, 
	sign_count INTEGER, 
	transports TEXT, 
	backup_state BOOLEAN NOT NULL, 
	device_type VARCHAR(64) NOT NULL, 
	extensions VARCHAR(255), 
	create_datetime DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL, 
	lastuse_datetime DATETIME NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	usage VARCHAR(64) NOT NULL, 
	user_id INTEGER NOT NULL, 
	CONSTRAINT pk_webauthn PRIMARY KEY (id), 
	CONSTRAINT fk_webauthn_user_id FOREIGN KEY(user_id) REFERENCES user (id) ON DELETE CASCADE
);
CREATE TABLE worker_sign (
	name VARCHAR(80) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	trouble VARCHAR(255), 
	CONSTRAINT pk_worker_sign PRIMARY KEY (name)
);
CREATE UNIQUE INDEX uq_user_external_id ON user (external_id);
CREATE UNIQUE INDEX uq_user_email_lower ON user (lower(email));
CREATE UNIQUE INDEX uq_user_username_lower ON user (lower(username));
CREATE INDEX ix_signed_out_ends_at ON signed_out (ends_at);
CREATE INDEX ix_fs_refresh_expires_at ON fs_refresh (expires_at);
CREATE INDEX ix_fs_refresh_user_id ON fs_refresh (user_id);
CREATE INDEX ix_outbox_message_state_due_at ON outbox_message (state, due_at);
CREATE INDEX ix_outbox_message_exempt ON outbox_message (state, due_at) WHERE settled_at IS NULL AND kind <> 'webhook' AND (attempts > 0 OR kind NOT IN ('registration', 'invitation')) AND (attempts > 0 OR kind <> 'reset_instructions');
CREATE INDEX ix_outbox_message_events ON outbox_message (state, due_at) WHERE settled_at IS NULL AND kind = 'webhook';
CREATE INDEX ix_outbox_message_sign_up ON outbox_message (state, due_at) WHERE settled_at IS NULL AND attempts = 0 AND kind = 'registration';
CREATE INDEX ix_outbox_message_invited ON outbox_message (state, due_at) WHERE settled_at IS NULL AND attempts = 0 AND kind = 'invitation';
CREATE INDEX ix_outbox_message_urgent ON outbox_message (state, due_at) WHERE settled_at IS NULL AND kind <> 'webhook' AND (attempts > 0 OR kind NOT IN ('registration', 'invitation'));
CREATE INDEX ix_outbox_message_untried ON outbox_message (created_at) WHERE state = 'waiting' AND attempts = 0;
CREATE INDEX ix_outbox_message_refused_at ON outbox_message (refused_at) WHERE refused_at IS NOT NULL;
CREATE INDEX ix_outbox_message_user_id_quota_settled_at ON outbox_message (user_id, quota, settled_at);
CREATE INDEX ix_outbox_message_quota_settled_at ON outbox_message (quota, settled_at);
CREATE UNIQUE INDEX uq_outbox_message_same ON outbox_message (same) WHERE state = 'waiting' AND attempts = 0;
CREATE INDEX ix_recovery_event_at ON recovery_event (at);
CREATE INDEX ix_recovery_event_kind_at ON recovery_event (kind, at);
CREATE INDEX ix_recovery_event_user_id ON recovery_event (user_id);
CREATE UNIQUE INDEX ix_webauthn_credential_id ON webauthn (credential_id);
CREATE INDEX ix_webauthn_user_id ON webauthn (user_id);
CREATE INDEX ix_reset_link_kind_issued_at ON reset_link (kind, issued_at);
CREATE INDEX ix_reset_link_issued_at ON reset_link (issued_at);
CREATE INDEX ix_reset_link_user_id_issued_at ON reset_link (user_id, issued_at);
CREATE UNIQUE INDEX uq_user_employee_number ON user (employee_number);
COMMIT;
