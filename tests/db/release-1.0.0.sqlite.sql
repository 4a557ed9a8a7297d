-- http://127.0.0.1:5000/reset/w9FPp1wAFELAVSIHoL_TwiJOwgIdGy4LqdLH1aNIBck
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
INSERT INTO "outbox_message" VALUES(1,'reset_instructions',NULL,X'6CFD9B31D71D6C8ED98227F027B78D552F4226AD0CC5BF41A51E15741765E99C','<f5cc72152f8535c0498364f70f02bfc0@127.0.0.1>',1,'sent',NULL,1,NULL,NULL,'','2026-11-29 22:21:16.016000','2026-11-29 22:25:16.059000','2026-11-29 22:21:16.236000',NULL,NULL,0);
INSERT INTO "outbox_message" VALUES(2,'reset_instructions','gAAAAABrDKVcMt1d8P3WIznAaZIfoVBdy5gJyXAK43ISbGMNoL47CU6ehlhAiTjwWBcI8CHZXCLIYLJKQQJxrYeX3GAGMrPn5o7N7esd4R20EgNcuw-D1gXnTn8BNVgYxD2n2MRbawdzHddf2M7pGwJASsTcrh0iIxErfDAOeFll5Hf0vXhuIP9orpgTXk98Oe1FrHlGHsRGVh8Tf-qIJcdZwTpqpxtWm6DqtCz_bYpXNp6qDo5ifdo=',X'2390CC09E3D590E6B117441B8920EE8BB0187F7D7DB80293A3490B0109CF2558','<8a9078baa2a90fbd0bad50f7838f67c2@127.0.0.1>',NULL,'waiting',NULL,0,NULL,'3219566e64cdd7ff48a6417a8cdc13ba001c7e57418f3439c0ac592c3f5121f9','','2026-11-29 22:21:16.273000','2026-11-29 22:21:16.273000',NULL,NULL,NULL,0);
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
INSERT INTO "recovery_event" VALUES(1,'2026-11-29 22:21:16.016000','requested','reset_instructions',NULL,'127.0.0.1','default','f1d35b7e9860e7ff',NULL);
INSERT INTO "recovery_event" VALUES(2,'2026-11-29 22:21:16.237000','mail_sent','reset_instructions',1,NULL,NULL,'f5cc72152f8535c0498364f70f02bfc0',0.22);
INSERT INTO "recovery_event" VALUES(3,'2026-11-29 22:21:16.273000','requested','reset_instructions',NULL,'127.0.0.1','default','51502aae20fae0a2',NULL);
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
INSERT INTO "reset_link" VALUES(1,1,1,'6d82a8d8a63c834bb32ccb36acd1a34f3c41b3cd9b5249b39fd1dcac404165b8','alice@example.com','75a494c38405dce915f126b93cf3c20bf3a45a451442ad143eef2b7e27bbb242','default','reset_instructions',NULL,'2026-11-29 22:21:16.193000','2026-11-29 23:21:16.193000',NULL,NULL,NULL,NULL,NULL,NULL);
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
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,'alice@example.com','alice','$argon2id$v=19$m=19456,t=2,p=1$krKWMgbgfI8xZkwJofTemw$rtOhoKN3ipefAqstCg7yXbR9ABmQfwTDblu/WlwY4cI',1,'a41d28e7192e48528c6796762f99e432',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'+14155550123','879ac52b83614614827038a35d180d06',NULL,'2026-11-29 22:21:15','2026-11-29 22:21:15',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,2,'bob@example.com','bob','$argon2id$v=19$m=19456,t=2,p=1$EQLAWAvBuJdS6l3LufceYw$eli3QqokOuO12u+7DZQ4Ofa7E2ib3Qp4jmFWnycxt2s',1,'3b0b6dde91094306b035b77b10380533',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'+14155550124','6cc278184eb64cc395fdeb1b7fb65c8c',NULL,'2026-11-29 22:21:15','2026-11-29 22:21:15',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,3,'inactive@example.com',NULL,'$argon2id$v=19$m=19456,t=2,p=1$q3VOCUEI4ZwzJgTgHOM8Rw$tp5k5dX++sJEH54mdr7/3yIX3Hq7b9cFVNsUlXPTBq0',0,'e2d8e0f58adb4372a70aee15e68cdcaa',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'69c95a031dbe4f17ba03d1b10cbf3636',NULL,'2026-11-29 22:21:15','2026-11-29 22:21:15',NULL);
INSERT INTO "user" VALUES(NULL,NULL,NULL,NULL,NULL,NULL,NULL,4,'sso@example.com',NULL,NULL,1,'507d3bfea962491786a22625d7e0b929',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'634704b4b7564f1eb8757ed287a11099',NULL,'2026-11-29 22:21:15','2026-11-29 22:21:15',NULL);
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
