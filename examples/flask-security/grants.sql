-- For PostgreSQL, as an administrator of the application's database: all that Sparekey may do there.
CREATE SCHEMA sparekey AUTHORIZATION sparekey;
GRANT SELECT (id, email, password, active) ON "user" TO sparekey;
GRANT UPDATE (password, fs_uniquifier) ON "user" TO sparekey;

-- So that no look-up reads the whole table. `check` names those that are missing.
CREATE INDEX sparekey_lower_email ON "user" (lower(email));
