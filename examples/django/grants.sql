-- For PostgreSQL, as an administrator of the application's database: all that Sparekey may do there.
CREATE SCHEMA sparekey AUTHORIZATION sparekey;
GRANT SELECT (id, email, username, password, is_active) ON auth_user TO sparekey;
GRANT UPDATE (password) ON auth_user TO sparekey;

-- So that no look-up reads the whole table. `check` names those that are missing.
CREATE INDEX sparekey_email ON auth_user (email);
CREATE INDEX sparekey_lower_email ON auth_user (lower(email));
CREATE INDEX sparekey_lower_username ON auth_user (lower(username));
