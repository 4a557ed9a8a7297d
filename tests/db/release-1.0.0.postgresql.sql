-- http://127.0.0.1:5000/reset/IHuSYGBdt0_XJ4LR2uwlXQJnZ2AXWQ9-VxobQb0RjGk
CREATE TABLE public.code_request (
    id integer NOT NULL,
    at timestamp without time zone NOT NULL,
    requester character varying(32) NOT NULL,
    identity character varying(32) NOT NULL,
    is_known boolean NOT NULL
);
CREATE SEQUENCE public.code_request_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.code_request_id_seq OWNED BY public.code_request.id;
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
CREATE TABLE public.reset_code (
    id integer NOT NULL,
    link_id integer NOT NULL,
    code_hash character varying(64) NOT NULL
);
CREATE SEQUENCE public.reset_code_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.reset_code_id_seq OWNED BY public.reset_code.id;
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
CREATE TABLE public.worker_heartbeat (
    name character varying(80) NOT NULL,
    seen_at timestamp without time zone NOT NULL,
    trouble character varying(255)
);
ALTER TABLE ONLY public.code_request ALTER COLUMN id SET DEFAULT nextval('public.code_request_id_seq'::regclass);
ALTER TABLE ONLY public.fs_refresh ALTER COLUMN id SET DEFAULT nextval('public.fs_refresh_id_seq'::regclass);
ALTER TABLE ONLY public.outbox_message ALTER COLUMN id SET DEFAULT nextval('public.outbox_message_id_seq'::regclass);
ALTER TABLE ONLY public.recovery_event ALTER COLUMN id SET DEFAULT nextval('public.recovery_event_id_seq'::regclass);
ALTER TABLE ONLY public.reset_code ALTER COLUMN id SET DEFAULT nextval('public.reset_code_id_seq'::regclass);
ALTER TABLE ONLY public.reset_link ALTER COLUMN id SET DEFAULT nextval('public.reset_link_id_seq'::regclass);
ALTER TABLE ONLY public.role ALTER COLUMN id SET DEFAULT nextval('public.role_id_seq'::regclass);
ALTER TABLE ONLY public."user" ALTER COLUMN id SET DEFAULT nextval('public.user_id_seq'::regclass);
ALTER TABLE ONLY public.webauthn ALTER COLUMN id SET DEFAULT nextval('public.webauthn_id_seq'::regclass);
INSERT INTO public.identity_column VALUES ('employee_number');
INSERT INTO public.outbox_message VALUES (1, 'reset_instructions', NULL, '\x5692f2acc23492746819ac96d46baa3ec34601acbfaa3336a53792029b8283f5', '<adbd84c70871b89f8cf0a12d5f0ad0b0@127.0.0.1>', 1, 'sent', NULL, 1, NULL, NULL, '', '2026-11-29 22:38:02.180033', '2026-11-29 22:42:02.280473', '2026-11-29 22:38:02.458694', NULL, NULL, 0);
INSERT INTO public.outbox_message VALUES (2, 'reset_instructions', 'gAAAAABrDKlKP75XrddtIufAOfn-wJBSEFrbqUDcYEHXjf1-gcgG4uo8dr8tOkQZOKbBGooDVG_b233EvvNw8vXJRa32Lv8zXhCVsiPOQHLVQ1iW8Cu4m3uvR-QSVUDO0QVFJZ1_-Na_gmeoTVGV-x2-p6_OrTuWGY2Pn9G7ME6J0OWXMBe0_ET7IXPkcNgNEkH8j26doYJIc8ZGZxI5tJ2rOGeaZwdG4D1f1zwBBicwFEERX-nYQ44=', '\x5c33619abd205d61d248283d4fd0b03b7467e6b3e640f3bc5a14ba30ce9a5f0f', '<52b416e5c7d45e89eed5030a10e96059@127.0.0.1>', NULL, 'waiting', NULL, 0, NULL, '3219566e64cdd7ff48a6417a8cdc13ba001c7e57418f3439c0ac592c3f5121f9', '', '2026-11-29 22:38:02.507683', '2026-11-29 22:38:02.507685', NULL, NULL, NULL, 0);
INSERT INTO public.recovery_event VALUES (1, '2026-11-29 22:38:02.182412', 'requested', 'reset_instructions', NULL, '127.0.0.1', 'default', '120025238710ada9', NULL);
INSERT INTO public.recovery_event VALUES (2, '2026-11-29 22:38:02.464867', 'mail_sent', 'reset_instructions', 1, NULL, NULL, 'adbd84c70871b89f8cf0a12d5f0ad0b0', 0.278741);
INSERT INTO public.recovery_event VALUES (3, '2026-11-29 22:38:02.508129', 'requested', 'reset_instructions', NULL, '127.0.0.1', 'default', '8a1e2be023356a50', NULL);
INSERT INTO public.reset_link VALUES (1, 1, 1, '52cae779d484a62e0ef7984461ba09a86b121b994116e42ab72a43137220482c', 'alice@example.com', '595d2e5dfa16825ae12f4b3b512f4a0b7865823ad8e6290980930ef047dc887e', 'default', 'reset_instructions', NULL, '2026-11-29 22:38:02.360031', '2026-11-29 23:38:02.360033', NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.sparekey_version VALUES ('0001');
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 'alice@example.com', 'alice', '$argon2id$v=19$m=19456,t=2,p=1$kNKaMyaktFaqVUrJ2dtbKw$xcAuAHM0jgusJmom8tNVXbrnEMBM/XMo90xJpVZD1gY', true, '0de1636f966944ed80c8fee92456b6de', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155550123', '88bb67a18f0b4b5e91a62b9630cf9940', NULL, '2026-11-29 22:38:01.485748', '2026-11-29 22:38:01.485748', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 2, 'bob@example.com', 'bob', '$argon2id$v=19$m=19456,t=2,p=1$R6i1FsK41xpD6D2ndE5pzQ$OGxhg45O2FOf6ps52vPHKEzCF1xjwDvPNrezKoIoNfU', true, 'd50af66dddd74e4c8410d80c8f5e10d6', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '+14155550124', 'bdc2814cff3c432a89ace61b604d9e10', NULL, '2026-11-29 22:38:01.485748', '2026-11-29 22:38:01.485748', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 3, 'inactive@example.com', NULL, '$argon2id$v=19$m=19456,t=2,p=1$5RwjpFRq7Z2zFiIkJOQcQw$smlYxaIhEd/yZE2/GJ56G3PwuaLg35i9GTEvCXRHdyE', false, 'b2b1d0656f45413dac362f28e91524e4', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '2ee71667b9fe497c8a6a949d4e5e746c', NULL, '2026-11-29 22:38:01.485748', '2026-11-29 22:38:01.485748', NULL);
INSERT INTO public."user" VALUES (NULL, NULL, NULL, NULL, NULL, NULL, NULL, 4, 'sso@example.com', NULL, NULL, true, '668cd5785b1a4fbdb8b6cc1163128d74', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '11e50572632c44ea96b7c877ae0a8d21', NULL, '2026-11-29 22:38:01.485748', '2026-11-29 22:38:01.485748', NULL);
SELECT pg_catalog.setval('public.code_request_id_seq', 1, false);
SELECT pg_catalog.setval('public.fs_refresh_id_seq', 1, false);
SELECT pg_catalog.setval('public.outbox_message_id_seq', 2, true);
SELECT pg_catalog.setval('public.recovery_event_id_seq', 3, true);
SELECT pg_catalog.setval('public.reset_code_id_seq', 1, false);
SELECT pg_catalog.setval('public.reset_link_id_seq', 1, true);
SELECT pg_catalog.setval('public.role_id_seq', 1, false);
SELECT pg_catalog.setval('public.user_id_seq', 4, true);
SELECT pg_catalog.setval('public.webauthn_id_seq', 1, false);
ALTER TABLE ONLY public.code_request
    ADD CONSTRAINT pk_code_request PRIMARY KEY (id);
ALTER TABLE ONLY public.fs_refresh
    ADD CONSTRAINT pk_fs_refresh PRIMARY KEY (id);
ALTER TABLE ONLY public.identity_column
    ADD CONSTRAINT pk_identity_column PRIMARY KEY (name);
ALTER TABLE ONLY public.outbox_message
    ADD CONSTRAINT pk_outbox_message PRIMARY KEY (id);
ALTER TABLE ONLY public.recovery_event
    ADD CONSTRAINT pk_recovery_event PRIMARY KEY (id);
ALTER TABLE ONLY public.reset_code
    ADD CONSTRAINT pk_reset_code PRIMARY KEY (id);
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
ALTER TABLE ONLY public.worker_heartbeat
    ADD CONSTRAINT pk_worker_heartbeat PRIMARY KEY (name);
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
CREATE INDEX ix_code_request_at ON public.code_request USING btree (at);
CREATE INDEX ix_code_request_identity_at ON public.code_request USING btree (identity, at);
CREATE INDEX ix_code_request_requester_id ON public.code_request USING btree (requester, id);
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
CREATE INDEX ix_recovery_event_code ON public.recovery_event USING btree (request_id) WHERE ((kind)::text = 'code_entered'::text);
CREATE INDEX ix_recovery_event_kind_at ON public.recovery_event USING btree (kind, at);
CREATE INDEX ix_recovery_event_user_id ON public.recovery_event USING btree (user_id);
CREATE INDEX ix_reset_code_code_hash ON public.reset_code USING btree (code_hash);
CREATE INDEX ix_reset_code_link_id ON public.reset_code USING btree (link_id);
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
ALTER TABLE ONLY public.reset_code
    ADD CONSTRAINT fk_reset_code_link_id FOREIGN KEY (link_id) REFERENCES public.reset_link(id) ON DELETE CASCADE;
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
