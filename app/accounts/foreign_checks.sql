-- For PostgreSQL: the findings about a table, most with the statement for an administrator of the database.
WITH this AS (
    SELECT pg_class.oid, nspname, n.oid AS schema, CAST(:table AS text) AS name
    FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace WHERE pg_class.oid = :oid
), columns AS (
    SELECT attname, atttypmod, typcategory, format_type(atttypid, atttypmod) AS type
    FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid WHERE attrelid = :oid
)
SELECT 'accounts-grant', format('GRANT USAGE ON SCHEMA %I TO %I;', nspname, current_user)
FROM this WHERE NOT has_schema_privilege(schema, 'USAGE')
UNION ALL
SELECT 'accounts-grant', format('GRANT %s (%s) ON %s TO %I;', kind, string_agg(quote_ident(one), ', ' ORDER BY array_position(names, one)), name, current_user)
FROM this, (VALUES ('SELECT', CAST(:read AS text[])), ('UPDATE', :written)) AS needed (kind, names), unnest(names) AS one
WHERE NOT has_column_privilege(oid, one, kind) GROUP BY kind, name
UNION ALL
SELECT 'accounts-row-security', format('CREATE POLICY sparekey ON %s TO %I USING (true);', name, current_user)
FROM this WHERE row_security_active(oid) AND NOT EXISTS (
    SELECT FROM pg_policy WHERE polrelid = this.oid AND polcmd IN ('*', 'w')
    AND (0 = ANY (polroles) OR CAST(quote_ident(current_user) AS regrole) = ANY (polroles)))
UNION ALL
SELECT 'accounts-view', '' FROM this WHERE pg_relation_is_updatable(oid, true) & 4 = 0
UNION ALL
SELECT 'accounts-column-short', format('ALTER TABLE %s ALTER COLUMN %I TYPE varchar(255);', name, attname)
FROM this, columns JOIN unnest(CAST(:written AS text[]), CAST(:lengths AS integer[])) AS needed (one, length) ON attname = one
WHERE typcategory = 'S' AND atttypmod BETWEEN 5 AND length + 3
UNION ALL
SELECT 'accounts-column-type', format('%I has the type %s', attname, type)
FROM columns JOIN unnest(CAST(:named AS text[]), CAST(:categories AS text[])) AS needed (one, category) ON attname = one
WHERE typcategory <> category AND type <> 'uuid'
