-- Keys are recorded, not enforced (1_base.sql). These views add them to the catalog: each appears as
-- a constraint and, for primary keys, as an index.

ALTER TABLE pg_redshift.keys ADD COLUMN IF NOT EXISTS number serial;

CREATE OR REPLACE FUNCTION pg_redshift.numbers_of(relation oid, names text) RETURNS smallint[] LANGUAGE sql STABLE AS $$
SELECT array_agg(a.attnum ORDER BY n.place)
FROM unnest(string_to_array(names, ',')) WITH ORDINALITY AS n (name, place)
JOIN pg_attribute a ON a.attrelid = relation AND a.attname = replace(trim(n.name), '"', '') $$;

CREATE OR REPLACE VIEW pg_redshift.parsed_keys AS
SELECT (4000000000 + k.number)::oid AS oid, k.relation, c.relnamespace, c.relname, p.parts[2] AS kind,
       regexp_replace(regexp_replace(k.definition, '^CONSTRAINT \S+ ', ''), '"([a-z_][a-z0-9_]*)"', '\1', 'g') AS definition, pg_redshift.numbers_of(k.relation, p.parts[3]) AS columns,
       to_regclass(p.parts[4])::oid AS other, pg_redshift.numbers_of(to_regclass(p.parts[4])::oid, p.parts[5]) AS other_columns,
       -- PostgreSQL 8.0 names a key after its first column (redshift_connector 2.1.15, test_metadataAPI_keys.py).
       coalesce(pg_redshift.full_name(replace(p.parts[1], '"', '')::name), pg_redshift.full_name(c.relname) || CASE p.parts[2] WHEN 'PRIMARY KEY' THEN ''
           ELSE '_' || split_part(replace(pg_redshift.full_text(p.parts[3]), '"', ''), ', ', 1) END
           || CASE p.parts[2] WHEN 'PRIMARY KEY' THEN '_pkey' WHEN 'UNIQUE' THEN '_key' ELSE '_fkey' END) AS name
FROM pg_redshift.keys k JOIN pg_class c ON c.oid = k.relation
CROSS JOIN LATERAL (SELECT regexp_match(k.definition,
    '^(?:CONSTRAINT (\S+) )?(PRIMARY KEY|UNIQUE|FOREIGN KEY) \(([^)]*)\)(?: REFERENCES ([^ (]+)(?: ?\(([^)]*)\))?)?') AS parts) p;

DROP VIEW IF EXISTS pg_redshift.pg_constraint, pg_redshift.pg_index, pg_redshift.pg_class_and_keys, pg_redshift.pg_attribute_and_keys,
    pg_redshift.pg_attribute_and_keys, pg_redshift.table_constraints, pg_redshift.key_column_usage;
CREATE VIEW pg_redshift.pg_constraint AS
SELECT oid, pg_redshift.full_name(conname) AS conname, connamespace, contype, condeferrable, condeferred, conrelid, contypid, confrelid, confupdtype, confdeltype,
       confmatchtype, conkey, confkey, conbin, NULL::text AS consrc
FROM pg_catalog.pg_constraint WHERE contype <> 'n'
UNION ALL
SELECT oid, name, relnamespace, CASE kind WHEN 'PRIMARY KEY' THEN 'p' WHEN 'UNIQUE' THEN 'u' ELSE 'f' END::"char", false, false,
       relation, 0, coalesce(other, 0), ' ', ' ', ' ', columns, other_columns, NULL, NULL
FROM pg_redshift.parsed_keys;
CREATE VIEW pg_redshift.pg_index AS
SELECT indexrelid, indrelid, indnatts, indisunique, indisprimary, indisclustered, indisvalid, indkey::smallint[] AS indkey
FROM pg_catalog.pg_index
UNION ALL
SELECT oid, relation, array_length(columns, 1)::smallint, true, true, false, true, columns
FROM pg_redshift.parsed_keys WHERE kind = 'PRIMARY KEY';
-- For statements that join them with pg_index.
CREATE VIEW pg_redshift.pg_class_and_keys AS
SELECT oid, pg_redshift.full_name(relname) AS relname, relnamespace, reltype, relowner, relam, relpages, reltuples, relhasindex, relkind, relnatts, relacl
FROM pg_catalog.pg_class
UNION ALL
SELECT oid, name, relnamespace, 0, 0, 0, 0, 0, false, 'i', array_length(columns, 1)::smallint, NULL
FROM pg_redshift.parsed_keys WHERE kind = 'PRIMARY KEY';
DO $$
BEGIN
    EXECUTE format('CREATE VIEW pg_redshift.pg_attribute_and_keys AS SELECT * FROM pg_redshift.pg_attribute UNION ALL
        SELECT %s, 0, false, 0 FROM pg_redshift.parsed_keys k
        CROSS JOIN LATERAL unnest(k.columns) WITH ORDINALITY AS p (number, place)
        JOIN pg_catalog.pg_attribute c ON c.attrelid = k.relation AND c.attnum = p.number WHERE k.kind = ''PRIMARY KEY''',
        pg_redshift.columns_of('pg_catalog.pg_attribute', 'attrelid', 'k.oid', 'attnum', 'p.place::smallint',
        'attname', 'pg_redshift.full_name(c.attname)'));
END $$;
CREATE VIEW pg_redshift.table_constraints AS
SELECT current_database()::varchar AS constraint_catalog, pg_redshift.full_name(n.nspname) AS constraint_schema, k.name AS constraint_name,
       current_database()::varchar AS table_catalog, pg_redshift.full_name(n.nspname) AS table_schema, pg_redshift.full_name(k.relname) AS table_name,
       k.kind::varchar AS constraint_type, 'NO'::varchar AS is_deferrable, 'NO'::varchar AS initially_deferred
FROM pg_redshift.parsed_keys k JOIN pg_namespace n ON n.oid = k.relnamespace;
CREATE VIEW pg_redshift.key_column_usage AS
SELECT current_database()::varchar AS constraint_catalog, pg_redshift.full_name(n.nspname) AS constraint_schema, k.name AS constraint_name,
       current_database()::varchar AS table_catalog, pg_redshift.full_name(n.nspname) AS table_schema, pg_redshift.full_name(k.relname) AS table_name,
       pg_redshift.full_name(a.attname) AS column_name, c.place::integer AS ordinal_position,
       CASE k.kind WHEN 'FOREIGN KEY' THEN c.place::integer END AS position_in_unique_constraint
FROM pg_redshift.parsed_keys k JOIN pg_namespace n ON n.oid = k.relnamespace
CROSS JOIN LATERAL unnest(k.columns) WITH ORDINALITY AS c (number, place)
JOIN pg_attribute a ON a.attrelid = k.relation AND a.attnum = c.number;
-- For SHOW CONSTRAINTS. Redshift's drivers read a null rule as NO ACTION, and a null deferrability as not deferrable.
DROP VIEW IF EXISTS pg_redshift.primary_keys, pg_redshift.foreign_keys;
CREATE VIEW pg_redshift.primary_keys AS
SELECT u.table_catalog AS database_name, u.table_schema AS schema_name, u.table_name, u.constraint_name AS pk_name, u.column_name,
       u.ordinal_position AS key_seq
FROM pg_redshift.key_column_usage u JOIN pg_redshift.table_constraints t USING (table_schema, table_name, constraint_name)
WHERE t.constraint_type = 'PRIMARY KEY';
CREATE VIEW pg_redshift.foreign_keys AS
SELECT current_database()::varchar AS pk_database_name, pg_redshift.full_name(pn.nspname) AS pk_schema_name,
       pg_redshift.full_name(pc.relname) AS pk_table_name, pg_redshift.full_name(pa.attname) AS pk_column_name,
       current_database()::varchar AS fk_database_name, pg_redshift.full_name(fn.nspname) AS fk_schema_name,
       pg_redshift.full_name(k.relname) AS fk_table_name, pg_redshift.full_name(fa.attname) AS fk_column_name,
       c.place::integer AS key_seq, k.name AS fk_name, p.name AS pk_name,
       NULL::smallint AS update_rule, NULL::smallint AS delete_rule, NULL::smallint AS deferrability
FROM pg_redshift.parsed_keys k JOIN pg_namespace fn ON fn.oid = k.relnamespace
JOIN pg_class pc ON pc.oid = k.other JOIN pg_namespace pn ON pn.oid = pc.relnamespace
LEFT JOIN LATERAL (SELECT p.name, p.columns FROM pg_redshift.parsed_keys p WHERE p.relation = k.other AND p.kind <> 'FOREIGN KEY'
    AND coalesce(k.other_columns <@ p.columns, p.kind = 'PRIMARY KEY') ORDER BY p.kind LIMIT 1) p ON true
CROSS JOIN LATERAL unnest(k.columns, coalesce(k.other_columns, p.columns)) WITH ORDINALITY AS c (number, other, place)
JOIN pg_attribute fa ON fa.attrelid = k.relation AND fa.attnum = c.number
JOIN pg_attribute pa ON pa.attrelid = k.other AND pa.attnum = c.other
WHERE k.kind = 'FOREIGN KEY';
GRANT SELECT ON pg_redshift.parsed_keys, pg_redshift.primary_keys, pg_redshift.foreign_keys, pg_redshift.pg_constraint, pg_redshift.pg_index, pg_redshift.pg_class_and_keys, pg_redshift.pg_attribute_and_keys,
    pg_redshift.table_constraints, pg_redshift.key_column_usage TO PUBLIC;

-- Columns that PostgreSQL has removed.
CREATE OR REPLACE VIEW pg_redshift.pg_attrdef AS
SELECT oid, adrelid, adnum, adbin, pg_get_expr(adbin, adrelid) AS adsrc FROM pg_catalog.pg_attrdef
WHERE adrelid NOT IN (SELECT oid FROM pg_catalog.pg_class WHERE relnamespace = 'pg_redshift'::regnamespace)
UNION ALL
SELECT NULL, attrelid, attnum, NULL, pg_redshift.default_of(attrelid, attnum) FROM pg_catalog.pg_attribute WHERE attidentity <> '';
CREATE OR REPLACE VIEW pg_redshift.pg_proc AS
SELECT p.*, p.prokind = 'a' AS proisagg, p.prokind = 'w' AS proiswindow FROM pg_catalog.pg_proc p;
GRANT SELECT ON pg_redshift.pg_attrdef, pg_redshift.pg_proc TO PUBLIC;

CREATE OR REPLACE FUNCTION pg_redshift.pg_get_constraintdef(key oid, pretty boolean DEFAULT false) RETURNS text
LANGUAGE sql STABLE AS $$
SELECT coalesce((SELECT pg_redshift.full_text(definition) FROM pg_redshift.parsed_keys k WHERE k.oid = key), pg_catalog.pg_get_constraintdef(key, pretty)) $$;
