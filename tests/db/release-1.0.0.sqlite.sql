-- http://127.0.0.1:5000/reset/ZkqRM1Em3u4NkJk_z5LOa4iZH-1zmRHGJlfJ-JcO0vA
BEGIN TRANSACTION;
CREATE TABLE code_request (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	requester VARCHAR(32) NOT NULL, 
	identity VARCHAR(32) NOT NULL, 
	is_known BOOLEAN NOT NULL, 
	CONSTRAINT pk_code_request PRIMARY KEY (id)
);
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
INSERT INTO "outbox_message" VALUES(1,'reset_instructions',NULL,X'8B14B80C5085DB36BC7FF696DBA53E364A71A734D9CDFDB05BA4601403C7D29D','<03bed8cbeba78a15c80edd0ca12ef7fc@127.0.0.1>',1,'sent',NULL,1,NULL,NULL,'','2026-11-29 22:37:59.714000','2026-11-29 22:41:59.793000','2026-11-29 22:38:00.318000',NULL,NULL,0);
INSERT INTO "outbox_message" VALUES(2,'reset_instructions','gAAAAABrDKlIAX7PiervrPwxSr8EbT8zDdLhTLebPyccCwI76dsA3QpTbQam__Kf0T5sAWng3A7BER6PtBJTLVQhGa7xXrsegx5B4m1nFQmtDAOP1pZppbsDNAwBMZ_2ccAt4O4vyIucaU9tx3PwDYk8QqFuHCLWut0f-L19U22KUWeYgRuNL5HhZs2ERQ0G0uu3vloedvBZP4gY4k8k_pE3yZJQdPfIzekxY6pqsf4cA2r_9lOcaKc=',X'B50C7B1BA0CD4FC5DE674D0C50AA35944531056040BFECD32CCE9B420B8EC6B6','<3d3fbc81cdf980510d0d681bf7ff93e5@127.0.0.1>',NULL,'waiting',NULL,0,NULL,'3219566e64cdd7ff48a6417a8cdc13ba001c7e57418f3439c0ac592c3f5121f9','','2026-11-29 22:38:00.379000','2026-11-29 22:38:00.379000',NULL,NULL,NULL,0);
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
INSERT INTO "recovery_event" VALUES(1,'2026-11-29 22:37:59.715000','requested','reset_instructions',NULL,'127.0.0.1','default','979c698be38bb8d3',NULL);
INSERT INTO "recovery_event" VALUES(2,'2026-11-29 22:38:00.327000','mail_sent','reset_instructions',1,NULL,NULL,'03bed8cbeba78a15c80edd0ca12ef7fc',0.604);
INSERT INTO "recovery_event" VALUES(3,'2026-11-29 22:38:00.380000','requested','reset_instructions',NULL,'127.0.0.1','default','90d79f030c3f3f4f',NULL);
CREATE TABLE reset_code (
	id INTEGER NOT NULL, 
	link_id INTEGER NOT NULL, 
	code_hash VARCHAR(64) NOT NULL, 
	CONSTRAINT pk_reset_code PRIMARY KEY (id), 
	CONSTRAINT fk_reset_code_link_id FOREIGN KEY(link_id) REFERENCES reset_link (id) ON DELETE CASCADE
);
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
INSERT INTO "reset_link" VALUES(1,1,1,'4ec5619dc72d624073c2317841b577ad1ffdbf6e4c0f97cc2ec5f9a803a0d18c','alice@example.com','97823912c3144e9e63d7c38da69dbe183837a38522a895867bfd75426364543f','default','reset_instructions',NULL,'2026-11-29 22:38:00.150000','2026-11-29 23:38:00.150000',NULL,NULL,NULL,NULL,NULL,NULL);
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
	second_email VARCHAR(255), 
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
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'alice@example.com','alice','$argon2id$v=19$m=19456,t=2,p=1$/z9HiNF6D2GsVQrB+L/XWg$1NxEwLPpLbTGWu6CUf5uXvLSNV/sw9XNjuML6tVtdmg',1,'36f72c4c7a0247b7a4166c8d90b8f362',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'+14155550123','6770fc9d984e4b87aec50a2035ddf34c',NULL,'2026-11-29 22:37:59','2026-11-29 22:37:59',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,'bob@example.com','bob','$argon2id$v=19$m=19456,t=2,p=1$wlgrReg9J8RYqzVmTGlNqQ$JBFyAe02hciQ1KG3pT9k6aQMKbJHR5xJMWFzKKHJedw',1,'ec52412fccf6405c8184ced278a0e376',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'+14155550124','474685abf34a415d8f9a6b1261152b53',NULL,'2026-11-29 22:37:59','2026-11-29 22:37:59',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,3,'inactive@example.com',NULL,'$argon2id$v=19$m=19456,t=2,p=1$oZSy1npPCeGc837PeY/R2g$gNzL0i74vtsE8ZiegVge3vhUJ1h9U1YmIt4l5gcq3fs',0,'5f5896337582413e94a301dcdb02904d',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2333bdd11f784b3fae27f4383a6737a1',NULL,'2026-11-29 22:37:59','2026-11-29 22:37:59',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,4,'sso@example.com',NULL,NULL,1,'fb8a4aa7dd8d4d1ea7e05e7fbd7c8d35',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'fbaec2197e134781a70a19045495e77f',NULL,'2026-11-29 22:37:59','2026-11-29 22:37:59',NULL);
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
CREATE TABLE worker_heartbeat (
	name VARCHAR(80) NOT NULL, 
	seen_at DATETIME NOT NULL, 
	trouble VARCHAR(255), 
	CONSTRAINT pk_worker_heartbeat PRIMARY KEY (name)
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
CREATE INDEX ix_recovery_event_code ON recovery_event (request_id) WHERE kind = 'code_entered';
CREATE INDEX ix_recovery_event_user_id ON recovery_event (user_id);
CREATE UNIQUE INDEX ix_webauthn_credential_id ON webauthn (credential_id);
CREATE INDEX ix_webauthn_user_id ON webauthn (user_id);
CREATE INDEX ix_reset_link_kind_issued_at ON reset_link (kind, issued_at);
CREATE INDEX ix_reset_link_issued_at ON reset_link (issued_at);
CREATE INDEX ix_reset_link_user_id_issued_at ON reset_link (user_id, issued_at);
CREATE INDEX ix_reset_code_code_hash ON reset_code (code_hash);
CREATE INDEX ix_reset_code_link_id ON reset_code (link_id);
CREATE INDEX ix_code_request_at ON code_request (at);
CREATE INDEX ix_code_request_identity_at ON code_request (identity, at);
CREATE INDEX ix_code_request_requester_id ON code_request (requester, id);
CREATE UNIQUE INDEX uq_user_employee_number ON user (employee_number);
COMMIT;
