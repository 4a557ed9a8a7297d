-- http://127.0.0.1:5000/reset/uD8lJj78gaX10zqnosYjhre8OdWO2-5rBTAUDyKmmjU
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
INSERT INTO public.outbox_message VALUES (1, 'reset_instructions', NULL, '\xe8fd16cc47b880e960037d24cf5a86f8831683059a119d6c13f3e6711296de5b', '<c381a9500bef7f7de9f6094277caaedc@127.0.0.1>', 1, 'sent', NULL, 1, NULL, NULL, '', '2026-11-29 22:07:27.680962', '2026-11-29 22:11:27.753588', '2026-11-29 22:07:27.863727', NULL, NULL, 0);
INSERT INTO public.outbox_message VALUES (2, 'reset_instructions', 'gAAAAABrDKIfXxQpmd_6fBHpiRXZzNJp23h0AFCDssuD47MrdyfC-UYc1ec6RMiiMrrDkTHsqIzdD0Xma6aIuE1-l8UOEc5aKovbL1QXMOCFoWpu1ixdvR6ixbxZ-4oux5ou_trAfHC_h6mY23TFa7SK-kcATlJpu9qTjkHD_PX-_fXXIRIfR-UK7V0gBDansUfPFqrOQegtj70Z5VlaZZV2p0GwN6Qf_DjXcrDV7VBYRgVE6Y2jcMc=', '\xa9de224e30fa4e34bfd6b703c32d9134d52c5085c8466838c274aea8d9054396', '<3ec52c5cff2d459e512f7713e4dfb5ec@127.0.0.1>', NULL, 'waiting', NULL, 0, NULL, '3219566e64cdd7ff48a6417a8cdc13ba001c7e57418f3439c0ac592c3f5121f9', '', '2026-11-29 22:07:27.927316', '2026-11-29 22:07:27.927316', NULL, NULL, NULL, 0);
INSERT INTO public.recovery_event VALUES (1, '2026-11-29 22:07:27.694631', 'requested', 'reset_instructions', NULL, '127.0.0.1', 'default', 'b9eef2fd68b800cb', NULL);
INSERT INTO public.recovery_event VALUES (2, '2026-11-29 22:07:27.874251', 'mail_sent', 'reset_instructions', 1, NULL, NULL, 'c381a9500bef7f7de9f6094277caaedc', 0.182821);
INSERT INTO public.recovery_event VALUES (3, '2026-11-29 22:07:27.934828', 'requested', 'reset_instructions', NULL, '127.0.0.1', 'default', '38be7083381c019c', NULL);
INSERT INTO public.reset_link VALUES (1, 1, 1, 'a77da4d7c8c400180bd476127550c866d7f8e38cd546d8b44e85e3201e301d8e', 'alice@example.com', 'f1ce3a9a7ccee187148f8e4234c2824bea85b8d787255b8dab34ed0f2e786b78', 'default', 'reset_instructions', NULL, '2026-11-29 22:07:27.800155', '2026-11-29 23:07:27.800156', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sparekey_version VALUES ('0001');
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, 1, 'alice@example.com', 'alice', '$argon2id$v=19$m=19456,t=2,p=1$GYPwfg8hBKA0hvB+z7m3Vg$Wpr1lRAZXjnlN2ZbCqVWNFouFU95TOpng4BXvnfaKs4', true, '193901db9aec43bc9ba0d35fcc7aeca5', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155550123', 'e0c463789a3b44648e8e2707879cb759', NULL, '2026-11-29 22:07:27.360125', '2026-11-29 22:07:27.360125', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, 2, 'bob@example.com', 'bob', '$argon2id$v=19$m=19456,t=2,p=1$bS3FGINQai1lbK31fu/dew$vKGzQVmD5XQDidSJLp5gEIOOdGkjsvLyZkaGBS1LDrY', true, '82eae973dd9b4a78b0c2c91ae8f2b4f4', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155550124', 'c608e32bc2074ae1a113e8bba9f3b258', NULL, '2026-11-29 22:07:27.360125', '2026-11-29 22:07:27.360125', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, 3, 'inactive@example.com', NULL, '$argon2id$v=19$m=19456,t=2,p=1$OIewdq71fi/FGCMkxNh7Lw$Ok22NYvWfzNrMMMbbapwmNjwl6yZm8sluRHdZ8b+EUg', false, 'a0646f5f56d94119a9d06db5f80784a5', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'fbe970166f9b4c0e97726ae077a2b1e4', NULL, '2026-11-29 22:07:27.360125', '2026-11-29 22:07:27.360125', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, 4, 'sso@example.com', NULL, NULL, true, '59ebe86e21d84217b182179cac2e25bd', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '3d3a6d122edb4d8ba6710e8d82cfd414', NULL, '2026-11-29 22:07:27.360125', '2026-11-29 22:07:27.360125', NULL);
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
