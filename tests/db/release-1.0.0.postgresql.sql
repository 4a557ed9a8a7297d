-- http://127.0.0.1:5000/reset/nAYaQAm7HbnjheVCu7Gde71lozjReE7x22OxjlVRiwg
CREATE TABLE public.fs_refresh (
    id integer NOT NULL,
    refresh_family character varying(64) NOT NULL,
    gen integer NOT NULL,
    expires_at timestamp without time zone NOT NULL,
    revoked_at timestamp without time zone,
    last_used_at timestamp without time zone NOT NULL,
    create_datetime timestamp without time zone DEFAULT now() NOT NULL,
    name character varying(64) NOT NULL,
    user_id integer NOT NULL
);
CREATE SEQUENCE public.fs_refresh_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.fs_refresh_id_seq OWNED BY public.fs_refresh.id;
CREATE TABLE public.identity_column (
    name character varying(40) NOT NULL
);
CREATE TABLE public.outbox_message (
    id integer NOT NULL,
    kind character varying(40) NOT NULL,
    sealed text,
    nonce bytea NOT NULL,
    message_id character varying(255) NOT NULL,
    user_id integer,
    state character varying(20) NOT NULL,
    reason character varying(255),
    attempts integer NOT NULL,
    claim character varying(32),
    same character varying(64),
    quota character varying(64) NOT NULL,
    created_at timestamp without time zone NOT NULL,
    due_at timestamp without time zone NOT NULL,
    settled_at timestamp without time zone,
    refused_at timestamp without time zone,
    refused_domain character varying(255),
    refusals integer NOT NULL
);
CREATE SEQUENCE public.outbox_message_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.outbox_message_id_seq OWNED BY public.outbox_message.id;
CREATE TABLE public.recovery_event (
    id integer NOT NULL,
    at timestamp without time zone NOT NULL,
    kind character varying(40) NOT NULL,
    reason character varying(255),
    user_id integer,
    source character varying(45),
    client character varying(40),
    request_id character varying(32),
    seconds double precision
);
CREATE SEQUENCE public.recovery_event_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.recovery_event_id_seq OWNED BY public.recovery_event.id;
CREATE TABLE public.reset_link (
    id integer NOT NULL,
    user_id integer NOT NULL,
    message_id integer,
    token_hash character varying(64) NOT NULL,
    email character varying(255) NOT NULL,
    password_state character varying(64) NOT NULL,
    client character varying(40) NOT NULL,
    kind character varying(40) NOT NULL,
    username character varying(64),
    issued_at timestamp without time zone NOT NULL,
    expires_at timestamp without time zone NOT NULL,
    opened_at timestamp without time zone,
    redeemed_at timestamp without time zone,
    redeemed_by character varying(64),
    password_written character varying(64),
    superseded_at timestamp without time zone,
    revoked_at timestamp without time zone
);
CREATE SEQUENCE public.reset_link_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reset_link_id_seq OWNED BY public.reset_link.id;
CREATE TABLE public.role (
    id integer NOT NULL,
    name character varying(80) NOT NULL,
    description character varying(255),
    permissions text,
    update_datetime timestamp without time zone DEFAULT now() NOT NULL
);
CREATE SEQUENCE public.role_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.role_id_seq OWNED BY public.role.id;
CREATE TABLE public.roles_users (
    user_id integer NOT NULL,
    role_id integer NOT NULL
);
CREATE TABLE public.signed_out (
    id character varying(22) NOT NULL,
    ends_at timestamp without time zone NOT NULL
);
CREATE TABLE public.sparekey_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.used_code (
    secret character varying(64) NOT NULL,
    counter integer NOT NULL
);
CREATE TABLE public."user" (
    withdrawn_password character varying(255),
    language character varying(20),
    contested_email character varying(255),
    contested_at timestamp without time zone,
    second_email character varying(255),
    invited_at timestamp without time zone,
    external_id character varying(255),
    id integer NOT NULL,
    email character varying(255) NOT NULL,
    username character varying(255),
    password character varying(255),
    active boolean NOT NULL,
    fs_uniquifier character varying(64) NOT NULL,
    confirmed_at timestamp without time zone,
    last_login_at timestamp without time zone,
    current_login_at timestamp without time zone,
    last_login_ip character varying(64),
    current_login_ip character varying(64),
    login_count integer,
    tf_primary_method character varying(64),
    tf_totp_secret character varying(255),
    tf_phone_number character varying(128),
    us_totp_secrets text,
    us_phone_number character varying(128),
    fs_webauthn_user_handle character varying(64),
    mf_recovery_codes text,
    create_datetime timestamp without time zone DEFAULT now() NOT NULL,
    update_datetime timestamp without time zone DEFAULT now() NOT NULL,
    employee_number character varying(255)
);
CREATE SEQUENCE public.user_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.user_id_seq OWNED BY public."user".id;
CREATE TABLE public.webauthn (
    id integer NOT NULL,
    credential_id bytea NOT NULL,
    public_key bytea NOT NULL,
    sign_count integer,
    transports text,
    backup_state boolean NOT NULL,
    device_type character varying(64) NOT NULL,
    extensions character varying(255),
    create_datetime timestamp without time zone DEFAULT now() NOT NULL,
    lastuse_datetime timestamp without time zone NOT NULL,
    name character varying(64) NOT NULL,
    usage character varying(64) NOT NULL,
    user_id integer NOT NULL
);
CREATE SEQUENCE public.webauthn_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.webauthn_id_seq OWNED BY public.webauthn.id;
CREATE TABLE public.worker_sign (
    name character varying(80) NOT NULL,
    seen_at timestamp without time zone NOT NULL,
    trouble character varying(255)
);
ALTER TABLE ONLY public.fs_refresh ALTER COLUMN id SET DEFAULT nextval('public.fs_refresh_id_seq'::regclass);
ALTER TABLE ONLY public.outbox_message ALTER COLUMN id SET DEFAULT nextval('public.outbox_message_id_seq'::regclass);
ALTER TABLE ONLY public.recovery_event ALTER COLUMN id SET DEFAULT nextval('public.recovery_event_id_seq'::regclass);
ALTER TABLE ONLY public.reset_link ALTER COLUMN id SET DEFAULT nextval('public.reset_link_id_seq'::regclass);
ALTER TABLE ONLY public.role ALTER COLUMN id SET DEFAULT nextval('public.role_id_seq'::regclass);
ALTER TABLE ONLY public."user" ALTER COLUMN id SET DEFAULT nextval('public.user_id_seq'::regclass);
ALTER TABLE ONLY public.webauthn ALTER COLUMN id SET DEFAULT nextval('public.webauthn_id_seq'::regclass);
INSERT INTO public.identity_column VALUES ('employee_number');
INSERT INTO public.outbox_message VALUES (1, 'reset_instructions', NULL, '\xa5820da9f58f1b12b614670602098f6ed3a4acc6a76844837e4485ce9686761b', '<72cbe348edb0f771184ead13ce7a9e10@127.0.0.1>', 1, 'sent', NULL, 1, NULL, NULL, '', '2026-11-29 22:21:16.863776', '2026-11-29 22:25:16.891968', '2026-11-29 22:21:16.933289', NULL, NULL, 0);
INSERT INTO public.outbox_message VALUES (2, 'reset_instructions', 'gAAAAABrDKVcWUHvPm-UBuuWu_Qp7og_J8-Pw66W9Hwiae9GeO_NXU-GKXhGWfMj8djXnB0h9eJ9m9YXn08L4JUV2ON4O91b2TzpqsRixjOXoTUmsdVNjOMUR31dK4n-NtFiOtFTxBrAevz42YZwGN04t7s6VEUAQNxFxcm0uJjnTYg2k9cwhJo1hMBn2nNvOlcQ5Xat-CBZtVG-5jY6RTUxijklul39gHi1Q4YhBzmjA0XXZ3lvsaM=', '\xec4491651c5f60b963130d4d9bc6e31103fd70519ff168b0f0519d692c8d799c', '<a6d527aa6871a47f36f38e44e26fd734@127.0.0.1>', NULL, 'waiting', NULL, 0, NULL, '3219566e64cdd7ff48a6417a8cdc13ba001c7e57418f3439c0ac592c3f5121f9', '', '2026-11-29 22:21:16.950576', '2026-11-29 22:21:16.950576', NULL, NULL, NULL, 0);
INSERT INTO public.recovery_event VALUES (1, '2026-11-29 22:21:16.867213', 'requested', 'reset_instructions', NULL, '127.0.0.1', 'default', '6d9013a021140b21', NULL);
INSERT INTO public.recovery_event VALUES (2, '2026-11-29 22:21:16.935678', 'mail_sent', 'reset_instructions', 1, NULL, NULL, '72cbe348edb0f771184ead13ce7a9e10', 0.069571);
INSERT INTO public.recovery_event VALUES (3, '2026-11-29 22:21:16.951035', 'requested', 'reset_instructions', NULL, '127.0.0.1', 'default', '02b3dd1276103995', NULL);
INSERT INTO public.reset_link VALUES (1, 1, 1, 'd185ecdf14a6667033b9fc9cfa87df08f6cdb5eaf42fd283da325e4c97837e35', 'alice@example.com', '27768453376324c39efa00906647bed3c6598ce426f1a4c1fe0260d5b74a0a4f', 'default', 'reset_instructions', NULL, '2026-11-29 22:21:16.903657', '2026-11-29 23:21:16.903658', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sparekey_version VALUES ('0001');
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 'alice@example.com', 'alice', '$argon2id$v=19$m=19456,t=2,p=1$slZq7Z1z7h3DGKM0pnTunQ$yKCHMuQpHL0eZmMWa447xFLP86gEhRF16TlSInJ5uvE', true, '58552a03bc2a4c02b083e3e3c29b921a', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155550123', '000ef3296d2347cda1f10c2e78a258f0', NULL, '2026-11-29 22:21:16.664382', '2026-11-29 22:21:16.664382', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 2, 'bob@example.com', 'bob', '$argon2id$v=19$m=19456,t=2,p=1$BCDkXEup9Z6z1rq3tjZmLA$/lQmHfzRe6X7tdzrgmsY+407i+ugnM+KSRwX6lk+WXg', true, '53cd53ec3aa348fbbcbbcd8b5f8cd276', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155550124', 'e36f124f409e44fca5dfbe4131162679', NULL, '2026-11-29 22:21:16.664382', '2026-11-29 22:21:16.664382', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 3, 'inactive@example.com', NULL, '$argon2id$v=19$m=19456,t=2,p=1$K8WYU8qZU4pRSgmBEGJMSQ$u6bvrfGI/hzkay526JBwh+eHokLbUVO95LMKQCFP03Y', false, '50790df6831a4a1db1356aa5bef747e5', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'b0866d4b0ae342f2a4db42fdcf9aa102', NULL, '2026-11-29 22:21:16.664382', '2026-11-29 22:21:16.664382', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 4, 'sso@example.com', NULL, NULL, true, 'd963c40c1aab4c6eae70043d1fabf229', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'bbed709fabd845c2a55be4df718c519c', NULL, '2026-11-29 22:21:16.664382', '2026-11-29 22:21:16.664382', NULL);
SELECT pg_catalog.setval('public.fs_refresh_id_seq', 1, false);
SELECT pg_catalog.setval('public.outbox_message_id_seq', 2, true);
SELECT pg_catalog.setval('public.recovery_event_id_seq', 3, true);
SELECT pg_catalog.setval('public.reset_link_id_seq', 1, true);
SELECT pg_catalog.setval('public.role_id_seq', 1, false);
SELECT pg_catalog.setval('public.user_id_seq', 4, true);
SELECT pg_catalog.setval('public.webauthn_id_seq', 1, false);
ALTER TABLE ONLY public.fs_refresh
    ADD CONSTRAINT pk_fs_refresh PRIMARY KEY (id);
ALTER TABLE ONLY public.identity_column
    ADD CONSTRAINT pk_identity_column PRIMARY KEY (name);
ALTER TABLE ONLY public.outbox_message
    ADD CONSTRAINT pk_outbox_message PRIMARY KEY (id);
ALTER TABLE ONLY public.recovery_event
    ADD CONSTRAINT pk_recovery_event PRIMARY KEY (id);
ALTER TABLE ONLY public.reset_link
    ADD CONSTRAINT pk_reset_link PRIMARY KEY (id);
ALTER TABLE ONLY public.role
    ADD CONSTRAINT pk_role PRIMARY KEY (id);
ALTER TABLE ONLY public.roles_users
    ADD CONSTRAINT pk_roles_users PRIMARY KEY (user_id, role_id);
ALTER TABLE ONLY public.signed_out
    ADD CONSTRAINT pk_signed_out PRIMARY KEY (id);
ALTER TABLE ONLY public.used_code
    ADD CONSTRAINT pk_used_code PRIMARY KEY (secret);
ALTER TABLE ONLY public."user"
    ADD CONSTRAINT pk_user PRIMARY KEY (id);
ALTER TABLE ONLY public.webauthn
    ADD CONSTRAINT pk_webauthn PRIMARY KEY (id);
ALTER TABLE ONLY public.worker_sign
    ADD CONSTRAINT pk_worker_sign PRIMARY KEY (name);
ALTER TABLE ONLY public.sparekey_version
    ADD CONSTRAINT sparekey_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.fs_refresh
    ADD CONSTRAINT uq_fs_refresh_refresh_family UNIQUE (refresh_family);
ALTER TABLE ONLY public.outbox_message
    ADD CONSTRAINT uq_outbox_message_message_id UNIQUE (message_id);
ALTER TABLE ONLY public.reset_link
    ADD CONSTRAINT uq_reset_link_message_id UNIQUE (message_id);
ALTER TABLE ONLY public.reset_link
    ADD CONSTRAINT uq_reset_link_token_hash UNIQUE (token_hash);
ALTER TABLE ONLY public.role
    ADD CONSTRAINT uq_role_name UNIQUE (name);
ALTER TABLE ONLY public."user"
    ADD CONSTRAINT uq_user_email UNIQUE (email);
ALTER TABLE ONLY public."user"
    ADD CONSTRAINT uq_user_fs_uniquifier UNIQUE (fs_uniquifier);
ALTER TABLE ONLY public."user"
    ADD CONSTRAINT uq_user_fs_webauthn_user_handle UNIQUE (fs_webauthn_user_handle);
ALTER TABLE ONLY public."user"
    ADD CONSTRAINT uq_user_us_phone_number UNIQUE (us_phone_number);
ALTER TABLE ONLY public."user"
    ADD CONSTRAINT uq_user_username UNIQUE (username);
CREATE INDEX ix_fs_refresh_expires_at ON public.fs_refresh USING btree (expires_at);
CREATE INDEX ix_fs_refresh_user_id ON public.fs_refresh USING btree (user_id);
CREATE INDEX ix_outbox_message_events ON public.outbox_message USING btree (state, due_at) WHERE ((settled_at IS NULL) AND ((kind)::text = 'webhook'::text));
CREATE INDEX ix_outbox_message_exempt ON public.outbox_message USING btree (state, due_at) WHERE ((settled_at IS NULL) AND ((kind)::text <> 'webhook'::text) AND ((attempts > 0) OR ((kind)::text <> ALL ((ARRAY['registration'::character varying, 'invitation'::character varying])::text[]))) AND ((attempts > 0) OR ((kind)::text <> 'reset_instructions'::text)));
CREATE INDEX ix_outbox_message_invited ON public.outbox_message USING btree (state, due_at) WHERE ((settled_at IS NULL) AND (attempts = 0) AND ((kind)::text = 'invitation'::text));
CREATE INDEX ix_outbox_message_quota_settled_at ON public.outbox_message USING btree (quota, settled_at);
CREATE INDEX ix_outbox_message_refused_at ON public.outbox_message USING btree (refused_at) WHERE (refused_at IS NOT NULL);
CREATE INDEX ix_outbox_message_sign_up ON public.outbox_message USING btree (state, due_at) WHERE ((settled_at IS NULL) AND (attempts = 0) AND ((kind)::text = 'registration'::text));
CREATE INDEX ix_outbox_message_state_due_at ON public.outbox_message USING btree (state, due_at);
CREATE INDEX ix_outbox_message_untried ON public.outbox_message USING btree (created_at) WHERE (((state)::text = 'waiting'::text) AND (attempts = 0));
CREATE INDEX ix_outbox_message_urgent ON public.outbox_message USING btree (state, due_at) WHERE ((settled_at IS NULL) AND ((kind)::text <> 'webhook'::text) AND ((attempts > 0) OR ((kind)::text <> ALL ((ARRAY['registration'::character varying, 'invitation'::character varying])::text[]))));
CREATE INDEX ix_outbox_message_user_id_quota_settled_at ON public.outbox_message USING btree (user_id, quota, settled_at);
CREATE INDEX ix_recovery_event_at ON public.recovery_event USING btree (at);
CREATE INDEX ix_recovery_event_kind_at ON public.recovery_event USING btree (kind, at);
CREATE INDEX ix_recovery_event_user_id ON public.recovery_event USING btree (user_id);
CREATE INDEX ix_reset_link_issued_at ON public.reset_link USING btree (issued_at);
CREATE INDEX ix_reset_link_kind_issued_at ON public.reset_link USING btree (kind, issued_at);
CREATE INDEX ix_reset_link_user_id_issued_at ON public.reset_link USING btree (user_id, issued_at);
CREATE INDEX ix_signed_out_ends_at ON public.signed_out USING btree (ends_at);
CREATE UNIQUE INDEX ix_webauthn_credential_id ON public.webauthn USING btree (credential_id);
CREATE INDEX ix_webauthn_user_id ON public.webauthn USING btree (user_id);
CREATE UNIQUE INDEX uq_outbox_message_same ON public.outbox_message USING btree (same) WHERE (((state)::text = 'waiting'::text) AND (attempts = 0));
CREATE UNIQUE INDEX uq_user_email_lower ON public."user" USING btree (lower((email)::text));
CREATE UNIQUE INDEX uq_user_employee_number ON public."user" USING btree (employee_number);
CREATE UNIQUE INDEX uq_user_external_id ON public."user" USING btree (external_id);
CREATE UNIQUE INDEX uq_user_username_lower ON public."user" USING btree (lower((username)::text));
ALTER TABLE ONLY public.fs_refresh
    ADD CONSTRAINT fk_fs_refresh_user_id FOREIGN KEY (user_id) REFERENCES public."user"(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.outbox_message
    ADD CONSTRAINT fk_outbox_message_user_id FOREIGN KEY (user_id) REFERENCES public."user"(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.recovery_event
    ADD CONSTRAINT fk_recovery_event_user_id FOREIGN KEY (user_id) REFERENCES public."user"(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.reset_link
    ADD CONSTRAINT fk_reset_link_message_id FOREIGN KEY (message_id) REFERENCES public.outbox_message(id) ON DELETE SET NULL;
ALTER TABLE ONLY public.reset_link
    ADD CONSTRAINT fk_reset_link_user_id FOREIGN KEY (user_id) REFERENCES public."user"(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.roles_users
    ADD CONSTRAINT fk_roles_users_role_id FOREIGN KEY (role_id) REFERENCES public.role(id);
ALTER TABLE ONLY public.roles_users
    ADD CONSTRAINT fk_roles_users_user_id FOREIGN KEY (user_id) REFERENCES public."user"(id);
ALTER TABLE ONLY public.webauthn
    ADD CONSTRAINT fk_webauthn_user_id FOREIGN KEY (user_id) REFERENCES public."user"(id) ON DELETE CASCADE;
