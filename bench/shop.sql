-- Another application's table of 500,000 accounts, for both oracles: on SQLite and on PostgreSQL.

CREATE TABLE users (
    id integer PRIMARY KEY, email varchar(254), password varchar(255), active boolean, confirmed_at timestamp
);

-- known0000000@example.com and so on, as in peers/alike.py
INSERT INTO users (id, email, password, active, confirmed_at)
WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < 499999)
SELECT
    n,
    'known' || substr(CAST(10000000 + n AS varchar(8)), 2) || '@example.com',
    '$2b$10$.....................................................',
    true,
    '2025-01-01 00:00:00'
FROM numbers;

CREATE INDEX users_email ON users (email);
CREATE INDEX users_lower_email ON users (lower(email));
ANALYZE
