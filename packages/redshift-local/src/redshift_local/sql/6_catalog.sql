-- System views that describe tables and privileges.
-- https://docs.aws.amazon.com/redshift/latest/dg/svv_views.html
-- Everything is dropped and created again, because columns can differ between versions of this file.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT format('%s.%I', relnamespace::regnamespace, relname) AS view FROM pg_class WHERE relkind = 'v' AND (relnamespace = 'pg_redshift'::regnamespace
                     OR relnamespace = 'pg_catalog'::regnamespace AND relname ~ '^((svv|stv|stl|svl|sys)_|pg_table_def$)') LOOP
        EXECUTE format('DROP VIEW IF EXISTS %s CASCADE', found.view);
    END LOOP;
END $$;

-- The encoding that was given, or that Redshift gives by the type; null where the manual does not say it.
-- https://docs.aws.amazon.com/redshift/latest/dg/c_Compression_encodings.html; its rule is for tables where another column has an
-- encoding. The example of SHOW TABLE (r_SHOW_TABLE) follows it for a table without any.
CREATE OR REPLACE FUNCTION pg_redshift.encoding(given text, type oid, sorted boolean) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN given IS NOT NULL THEN replace(given, 'raw', 'none') WHEN sorted THEN 'none'
    WHEN type IN ('bool'::regtype, 'float4'::regtype, 'float8'::regtype) THEN 'none'
    WHEN type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'numeric'::regtype, 'date'::regtype, 'timestamp'::regtype,
                  'timestamptz'::regtype) THEN 'az64'
    WHEN type IN ('varchar'::regtype, 'bpchar'::regtype, 'text'::regtype) THEN 'lzo' END::varchar $$;

-- The default of a column, with Redshift's form of identities, which https://github.com/sqlalchemy-redshift/sqlalchemy-redshift
-- reads (dialect.py). Unverified: the form of DEFAULT IDENTITY.
CREATE OR REPLACE FUNCTION pg_redshift.default_of(relation oid, number smallint) RETURNS varchar LANGUAGE sql STABLE AS $$
SELECT coalesce((SELECT format('"%s"(%s, %s, ''%s,%s''::text)', CASE a.attidentity WHEN 'd' THEN 'default_identity' ELSE 'identity' END,
                               relation, number - 1, s.seqstart, s.seqincrement)
                 FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = number
                 WHERE d.classid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid = number AND d.deptype = 'i'),
                (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = relation AND d.adnum = number)) $$;

-- Whether NOT NULL was written: PostgreSQL adds it to an identity, and CREATE TABLE gives it this name.
-- Two functions, because PostgreSQL inlines none with a subquery, and most columns are no identity.
CREATE OR REPLACE FUNCTION pg_redshift.is_required(relation oid, number smallint) RETURNS boolean LANGUAGE sql STABLE AS $$
SELECT NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = relation AND k.contype = 'n' AND k.conkey = ARRAY[number]
                   AND k.conname LIKE 'pg\_nullable\_%') $$;
CREATE OR REPLACE FUNCTION pg_redshift.is_required(relation oid, number smallint, required boolean, identity "char") RETURNS boolean
LANGUAGE sql STABLE AS $$ SELECT CASE identity WHEN '' THEN required ELSE pg_redshift.is_required(relation, number) END $$;

CREATE OR REPLACE FUNCTION pg_redshift.is_admin() RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT rolsuper FROM pg_roles WHERE rolname = current_user $$;

-- All columns that are visible to the user, with Redshift's type names. No window function: it would keep PostgreSQL from filtering
-- the tables first.
CREATE OR REPLACE VIEW pg_redshift.all_columns AS
SELECT current_database()::varchar AS database_name, pg_redshift.full_name(n.nspname) AS schema_name,
       pg_redshift.full_name(c.relname) AS table_name, pg_redshift.full_name(a.attname) AS column_name,
       (SELECT count(*) FROM pg_attribute b WHERE b.attrelid = a.attrelid AND b.attnum BETWEEN 1 AND a.attnum AND NOT b.attisdropped)
           ::integer AS ordinal_position,
       CASE WHEN a.atthasdef OR a.attidentity <> '' THEN pg_redshift.default_of(c.oid, a.attnum) END AS column_default,
       CASE WHEN pg_redshift.is_required(c.oid, a.attnum, a.attnotnull, a.attidentity) THEN 'NO' ELSE 'YES' END::varchar AS is_nullable,
       pg_redshift.format_type(a.atttypid, CASE t.typname WHEN 'interval' THEN a.atttypmod END)::varchar AS data_type,
       CASE WHEN t.typname IN ('varchar', 'bpchar') AND a.atttypmod > 4 THEN a.atttypmod - 4 END
           AS character_maximum_length,
       CASE t.typname WHEN 'int2' THEN 16 WHEN 'int4' THEN 32 WHEN 'int8' THEN 64
            WHEN 'numeric' THEN CASE WHEN a.atttypmod < 4 THEN 38 ELSE ((a.atttypmod - 4) >> 16) & 65535 END END
           AS numeric_precision,
       CASE WHEN t.typname IN ('int2', 'int4', 'int8') THEN 0
            WHEN t.typname = 'numeric' THEN CASE WHEN a.atttypmod < 4 THEN 37 ELSE (a.atttypmod - 4) & 2047 END END
           AS numeric_scale,
       coalesce(col_description(c.oid, a.attnum), '')::varchar AS remarks,
       a.attidentity <> '' AS is_identity, c.oid AS relation, c.relkind,
       CASE WHEN coalesce(cardinality(s.sort_keys), 0) = 0 THEN NULL WHEN s.interleaved THEN 'INTERLEAVED' ELSE 'COMPOUND' END::varchar
           AS sort_key_type,
       coalesce(array_position(s.sort_keys, a.attnum), 0) AS sort_key, (coalesce(a.attnum = s.dist_key, false))::integer AS dist_key,
       CASE c.relkind WHEN 'r' THEN pg_redshift.encoding(s.encodings ->> a.attnum::text, a.atttypid, a.attnum = ANY (s.sort_keys)) END AS encoding,
       a.attnum
FROM pg_attribute a
LEFT JOIN pg_redshift.storage s ON s.relation = a.attrelid
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'v', 'm', 'p', 'f')
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT IN ('pg_redshift', 'pg_toast')
  AND (pg_has_role(c.relowner, 'USAGE') OR has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'));

CREATE OR REPLACE VIEW pg_redshift.all_tables AS
SELECT current_database()::varchar AS database_name, pg_redshift.full_name(n.nspname) AS schema_name, pg_redshift.full_name(c.relname) AS table_name,
       CASE WHEN n.nspname LIKE 'pg_temp%' THEN 'LOCAL TEMPORARY' WHEN c.relkind IN ('v', 'm') THEN 'VIEW'
            ELSE 'TABLE' END::varchar AS table_type,
       CASE WHEN c.relkind = 'm' THEN 'MATERIALIZED VIEW' WHEN l.view IS NOT NULL THEN 'LATE BINDING VIEW'
            WHEN c.relkind = 'v' THEN 'REGULAR VIEW' ELSE 'REGULAR TABLE' END::varchar AS table_subtype,
       pg_redshift.full_name(pg_get_userbyid(c.relowner)) AS owner, obj_description(c.oid, 'pg_class')::varchar AS remarks,
       c.oid AS relation, c.relkind
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_redshift.late_binding_views l ON l.view = c.oid
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_redshift', 'pg_toast')
  AND (pg_has_role(c.relowner, 'USAGE')
       OR has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES'));

CREATE VIEW pg_catalog.svv_tables AS
SELECT database_name AS table_catalog, schema_name AS table_schema, table_name,
       CASE WHEN table_type = 'TABLE' THEN 'BASE TABLE' ELSE table_type END::varchar AS table_type, remarks
FROM pg_redshift.all_tables;
CREATE VIEW pg_catalog.svv_all_tables AS
SELECT database_name, schema_name, table_name, table_type, NULL::varchar AS table_acl, remarks FROM pg_redshift.all_tables;
CREATE VIEW pg_catalog.svv_redshift_tables AS
SELECT database_name, schema_name, table_name, table_type, NULL::varchar AS table_acl, remarks, owner AS table_owner
FROM pg_redshift.all_tables;
CREATE VIEW pg_catalog.svv_columns AS
SELECT database_name AS table_catalog, schema_name AS table_schema, table_name, column_name, ordinal_position,
       column_default, is_nullable, data_type, character_maximum_length, numeric_precision,
       CASE WHEN numeric_precision IS NULL THEN NULL WHEN data_type = 'numeric' THEN 10 ELSE 2 END
           AS numeric_precision_radix,
       numeric_scale, NULL::integer AS datetime_precision, NULL::varchar AS interval_type,
       NULL::varchar AS interval_precision, NULL::varchar AS character_set_catalog,
       NULL::varchar AS character_set_schema, NULL::varchar AS character_set_name,
       NULL::varchar AS collation_catalog, NULL::varchar AS collation_schema, NULL::varchar AS collation_name,
       NULL::varchar AS domain_name, remarks
FROM pg_redshift.all_columns;
CREATE VIEW pg_catalog.svv_redshift_columns AS
SELECT database_name, schema_name, table_name, column_name, ordinal_position,
       CASE WHEN character_maximum_length IS NOT NULL THEN data_type || '(' || character_maximum_length || ')'
            WHEN data_type = 'numeric' THEN 'numeric(' || numeric_precision || ',' || numeric_scale || ')'
            ELSE data_type END::varchar AS data_type,
       column_default, is_nullable, encoding, dist_key = 1 AS distkey,
       CASE WHEN sort_key_type = 'INTERLEAVED' AND sort_key % 2 = 1 THEN -sort_key ELSE sort_key END AS sortkey,
       NULL::varchar AS column_acl, remarks
FROM pg_redshift.all_columns;
CREATE VIEW pg_catalog.svv_all_columns AS
SELECT database_name, schema_name, table_name, column_name, ordinal_position, column_default, is_nullable, data_type,
       character_maximum_length, numeric_precision, numeric_scale, remarks
FROM pg_redshift.all_columns;
CREATE VIEW pg_catalog.svv_all_schemas AS
SELECT current_database()::varchar AS database_name, pg_redshift.full_name(nspname) AS schema_name, nspowner AS schema_owner,
       'local'::varchar AS schema_type, NULL::varchar AS schema_acl, NULL::varchar AS source_database,
       NULL::varchar AS schema_option
FROM pg_namespace WHERE nspname <> 'pg_redshift' AND nspname NOT LIKE 'pg_toast%';
CREATE VIEW pg_catalog.svv_redshift_schemas AS
SELECT database_name, schema_name, schema_owner, schema_type, schema_acl, schema_option FROM pg_catalog.svv_all_schemas;
CREATE VIEW pg_catalog.svv_redshift_databases AS
SELECT pg_redshift.full_name(datname) AS database_name, datdba AS database_owner, 'local'::varchar AS database_type,
       NULL::varchar AS database_acl, NULL::varchar AS database_options, 'Snapshot Isolation'::varchar
           AS database_isolation_level
FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1');

-- Counted, because PostgreSQL's estimate can be outdated.
CREATE OR REPLACE FUNCTION pg_redshift.row_count(relation oid) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
DECLARE
    found bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %s', relation::regclass) INTO found;
    RETURN found;
END $$;

-- Shows the recorded distribution and sort keys; they have no effect.
CREATE OR REPLACE VIEW pg_redshift.stored AS
SELECT relation, style || coalesce('(' || (SELECT pg_redshift.full_name(attname) FROM pg_attribute WHERE attrelid = relation AND attnum = dist_key)
           || ')', '') AS diststyle, dist_key, sort_keys, interleaved, encodings,
       CASE WHEN interleaved THEN 'INTERLEAVED'
            ELSE (SELECT pg_redshift.full_name(attname) FROM pg_attribute WHERE attrelid = relation AND attnum = sort_keys[1]) END
           AS first_key
FROM pg_redshift.storage;
CREATE VIEW pg_catalog.svv_table_info AS
SELECT current_database()::varchar AS database, pg_redshift.full_name(n.nspname) AS "schema", c.oid AS table_id,
       pg_redshift.full_name(c.relname) AS "table",
       (CASE WHEN EXISTS (SELECT FROM pg_redshift.all_columns a WHERE a.relation = c.oid AND a.encoding <> 'none') THEN 'Y' ELSE 'N' END
        || CASE WHEN coalesce(s.encodings, '{}') = '{}' THEN ', AUTO(ENCODE)' ELSE '' END)::varchar AS encoded,
       coalesce(s.diststyle, CASE c.relkind WHEN 'm' THEN 'EVEN' ELSE 'AUTO(ALL)' END)::varchar AS diststyle,
       s.first_key::varchar AS sortkey1,
       (SELECT max(a.atttypmod - 4) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.atttypid = 'varchar'::regtype AND NOT a.attisdropped) AS max_varchar,
       (SELECT a.encoding FROM pg_redshift.all_columns a WHERE a.relation = c.oid AND a.attnum = s.sort_keys[1]) AS sortkey1_enc,
       coalesce(array_length(s.sort_keys, 1), 0) AS sortkey_num,
       (pg_total_relation_size(c.oid) / 1048576)::bigint AS size, NULL::numeric(10, 4) AS pct_used, NULL::bigint AS empty,
       NULL::numeric(5, 2) AS unsorted, NULL::numeric(5, 2) AS stats_off,
       r.rows AS tbl_rows, NULL::numeric(19, 2) AS skew_sortkey1,
       NULL::numeric(19, 2) AS skew_rows, r.rows AS estimated_visible_rows,
       NULL::text AS risk_event, NULL::numeric(5, 2) AS vacuum_sort_benefit, NULL::timestamp AS create_time
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_redshift.stored s ON s.relation = c.oid
-- "The SVV_TABLE_INFO view doesn't return any information for empty tables." (r_SVV_TABLE_INFO)
JOIN LATERAL (SELECT pg_redshift.row_count(c.oid)::numeric(38, 0) AS rows OFFSET 0) r ON r.rows > 0
WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_redshift', 'pg_toast')
  AND (pg_redshift.is_admin() OR has_table_privilege(c.oid, 'SELECT'));
-- Tables of the search path. https://docs.aws.amazon.com/redshift/latest/dg/r_PG_TABLE_DEF.html
CREATE VIEW pg_catalog.pg_table_def AS
SELECT pg_redshift.full_name(n.nspname) AS schemaname, pg_redshift.full_name(c.relname) AS tablename,
       pg_redshift.full_name(a.attname) AS "column",
       CASE WHEN a.atttypid = 'bytea'::regtype THEN 'binary varying' ELSE format_type(a.atttypid, a.atttypmod) END AS type,
       pg_redshift.encoding(s.encodings ->> a.attnum::text, a.atttypid, a.attnum = ANY (s.sort_keys))::char(32) AS encoding,
       coalesce(a.attnum = s.dist_key, false) AS distkey,
       coalesce(CASE WHEN s.interleaved THEN (-1) ^ array_position(s.sort_keys, a.attnum) ELSE 1 END
                * array_position(s.sort_keys, a.attnum), 0)::integer AS sortkey,
       pg_redshift.is_required(c.oid, a.attnum, a.attnotnull, a.attidentity) AS "notnull"
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_redshift.stored s ON s.relation = c.oid
WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname NOT IN ('pg_redshift', 'pg_toast')
  AND pg_table_is_visible(c.oid) AND has_any_column_privilege(c.oid, 'SELECT');

-- The privileges of an access control list, with the names and kinds of the users. CREATE ROLE stores the comment.
CREATE OR REPLACE FUNCTION pg_redshift.grants(list aclitem[]) RETURNS TABLE (privilege_type varchar, identity_id oid, identity_name varchar,
    identity_type varchar, admin_option boolean, grantor_name varchar) LANGUAGE sql STABLE AS $$
SELECT a.privilege_type::varchar, a.grantee, coalesce(pg_redshift.full_name(r.rolname), 'public')::varchar,
       CASE WHEN r.oid IS NULL THEN 'public' WHEN r.rolcanlogin THEN 'user'
            WHEN shobj_description(r.oid, 'pg_authid') = 'role' THEN 'role' ELSE 'group' END::varchar, a.is_grantable,
       pg_redshift.full_name(pg_get_userbyid(a.grantor))
FROM aclexplode(list) a LEFT JOIN pg_roles r ON r.oid = a.grantee WHERE a.privilege_type <> 'MAINTAIN' $$; -- which Redshift lacks
CREATE VIEW pg_redshift.relation_privileges AS
SELECT pg_redshift.full_name(n.nspname) AS namespace_name, pg_redshift.full_name(c.relname) AS relation_name, g.*,
       g.identity_id = c.relowner AS is_owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_redshift.grants(coalesce(c.relacl, acldefault('r', c.relowner))) g
WHERE c.relkind IN ('r', 'v', 'm', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_redshift');
CREATE VIEW pg_redshift.column_privileges AS
SELECT pg_redshift.full_name(n.nspname) AS namespace_name, pg_redshift.full_name(c.relname) AS relation_name,
       pg_redshift.full_name(a.attname) AS column_name, g.*
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL pg_redshift.grants(a.attacl) g
WHERE a.attacl IS NOT NULL AND NOT a.attisdropped AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_redshift');
CREATE VIEW pg_redshift.schema_privileges AS
SELECT pg_redshift.full_name(n.nspname) AS namespace_name, g.*, g.identity_id = n.nspowner AS is_owner
FROM pg_namespace n CROSS JOIN LATERAL pg_redshift.grants(coalesce(n.nspacl, acldefault('n', n.nspowner))) g;
CREATE VIEW pg_catalog.svv_relation_privileges AS
SELECT namespace_name, relation_name, privilege_type, identity_id, identity_name, identity_type, admin_option FROM pg_redshift.relation_privileges;
CREATE VIEW pg_catalog.svv_schema_privileges AS
SELECT namespace_name, privilege_type, identity_id, identity_name, identity_type, admin_option FROM pg_redshift.schema_privileges;

-- User-defined functions. CREATE FUNCTION stores the names of the arguments as a comment.
CREATE VIEW pg_redshift.functions AS
SELECT current_database()::varchar AS database_name, pg_redshift.full_name(n.nspname) AS schema_name,
       pg_redshift.full_name(p.proname) AS function_name, p.pronargs::integer AS number_of_arguments,
       (SELECT coalesce(string_agg(pg_redshift.format_type(a.type, NULL), ', ' ORDER BY a.place), '')
        FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a (type, place))::varchar AS argument_list,
       pg_redshift.format_type(p.prorettype, NULL)::varchar AS return_type, NULL::varchar AS remarks, p.oid AS function
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname = 'sql' AND p.prokind = 'f' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_redshift')
  AND has_function_privilege(p.oid, 'EXECUTE');
CREATE VIEW pg_redshift.parameters AS
SELECT f.database_name, f.schema_name, f.function_name, a.name::varchar AS parameter_name, a.place::integer AS ordinal_position,
       a.kind::varchar AS parameter_type, pg_redshift.format_type(a.type, NULL)::varchar AS data_type,
       NULL::integer AS character_maximum_length, NULL::integer AS numeric_precision, NULL::integer AS numeric_scale, f.function
FROM pg_redshift.functions f JOIN pg_proc p ON p.oid = f.function
CROSS JOIN LATERAL (SELECT '' AS name, 0 AS place, 'RETURN' AS kind, p.prorettype AS type
    UNION ALL SELECT coalesce(pg_redshift.parsed(obj_description(p.oid, 'pg_proc')) ->> (u.place - 1)::integer, ''), u.place, 'IN', u.type
    FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS u (type, place)) a;

CREATE VIEW pg_catalog.svv_mv_info AS
SELECT current_database()::varchar AS database_name, pg_redshift.full_name(n.nspname) AS schema_name,
       pg_redshift.full_name(pg_get_userbyid(c.relowner)) AS user_name, pg_redshift.full_name(c.relname) AS name,
       NULL::char(1) AS is_stale, NULL::integer AS state, NULL::char(1) AS autorewrite,
       CASE WHEN s.auto_refresh THEN 't' ELSE 'f' END::char(1) AS autorefresh
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_redshift.storage s ON s.relation = c.oid WHERE c.relkind = 'm';
CREATE VIEW pg_catalog.stv_mv_info AS
SELECT database_name AS db_name, schema_name AS "schema", name, NULL::bigint AS updated_upto_xid, is_stale, user_name AS owner_user_name,
       state, autorewrite, autorefresh
FROM pg_catalog.svv_mv_info;

-- Replacements for pg_class, pg_attribute and pg_views. A materialized view is a view to Redshift's clients,
-- beside a table mv_tbl__<name>__0 with its storage and two more columns (https://github.com/PostHog/posthog/issues/83952);
-- a late-binding view has no columns.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_PG_TABLE_DEF.html
DROP VIEW IF EXISTS pg_redshift.pg_class, pg_redshift.pg_attribute, pg_redshift.pg_views CASCADE;
CREATE OR REPLACE FUNCTION pg_redshift.stored_as(relation oid) RETURNS oid LANGUAGE sql IMMUTABLE AS
$$ SELECT (relation::bigint + 2147483648)::oid $$;
-- Catalog numbers of styles and encodings; the numbers of encodings are invented.
CREATE OR REPLACE FUNCTION pg_redshift.style_number(name oid) RETURNS smallint LANGUAGE sql STABLE AS $$
SELECT coalesce((SELECT CASE style WHEN 'EVEN' THEN 0 WHEN 'KEY' THEN 1 WHEN 'ALL' THEN 8 ELSE 10 END
                 FROM pg_redshift.storage WHERE relation = name), 10)::smallint $$;
CREATE OR REPLACE FUNCTION pg_redshift.encoding_names() RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
SELECT ARRAY['raw', 'bytedict', 'delta', 'delta32k', 'lzo', 'mostly8', 'mostly16', 'mostly32', 'runlength', 'text255', 'text32k',
             'zstd', 'az64'] $$;
CREATE OR REPLACE FUNCTION pg_redshift.encoding_number(text) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE $1 WHEN 'none' THEN 0 ELSE array_position(pg_redshift.encoding_names(), $1) END $$;
CREATE OR REPLACE FUNCTION pg_catalog.format_encoding(integer) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1 <= 1 THEN 'none' ELSE (pg_redshift.encoding_names())[$1] END $$;
CREATE OR REPLACE FUNCTION pg_redshift.columns_of(relation regclass, VARIADIC changes text[] DEFAULT '{}') RETURNS text
LANGUAGE sql STABLE AS $$
SELECT string_agg(coalesce((SELECT changes[i + 1] FROM generate_subscripts(changes, 1) AS i WHERE changes[i] = attname),
    'c.' || attname) || ' AS ' || attname, ', ' ORDER BY attnum)
FROM pg_catalog.pg_attribute WHERE attrelid = relation AND attnum > 0 $$;
DO $$
BEGIN
    EXECUTE format('CREATE VIEW pg_redshift.pg_class AS
        SELECT %s, pg_redshift.style_number(c.oid) AS reldiststyle, false AS relhasoids FROM pg_catalog.pg_class c UNION ALL
        SELECT %s, pg_redshift.style_number(c.oid), false FROM pg_catalog.pg_class c WHERE c.relkind = ''m''',
        pg_redshift.columns_of('pg_catalog.pg_class', 'relkind', 'CASE c.relkind WHEN ''m'' THEN ''v'' ELSE c.relkind END',
            'relname', 'pg_redshift.full_name(c.relname)'),
        pg_redshift.columns_of('pg_catalog.pg_class', 'relkind', '''r''::"char"', 'oid', 'pg_redshift.stored_as(c.oid)',
            'relname', '''mv_tbl__'' || pg_redshift.full_name(c.relname) || ''__0'''));
    EXECUTE format('CREATE VIEW pg_redshift.pg_attribute AS SELECT %1$s, %2$s FROM pg_catalog.pg_attribute c
        LEFT JOIN pg_redshift.storage s ON s.relation = c.attrelid
        WHERE NOT EXISTS (SELECT FROM pg_redshift.late_binding_views l WHERE l.view = c.attrelid) UNION ALL
        SELECT %3$s, %2$s FROM pg_catalog.pg_class v JOIN pg_catalog.pg_attribute c ON c.attrelid = v.oid AND c.attnum > 0
        LEFT JOIN pg_redshift.storage s ON s.relation = v.oid WHERE v.relkind = ''m'' UNION ALL
        SELECT %4$s, 0, false, 0::smallint FROM pg_catalog.pg_class v JOIN pg_catalog.pg_attribute c ON c.attrelid = v.oid AND c.attnum = 1,
        (VALUES (''padb_internal_txn_id_col''::name, 1::smallint), (''padb_internal_txn_seq_col'', 2::smallint)) AS own (name, place)
        WHERE v.relkind = ''m''',
        pg_redshift.columns_of('pg_catalog.pg_attribute', 'attname', 'pg_redshift.full_name(c.attname)',
            'attnotnull', 'pg_redshift.is_required(c.attrelid, c.attnum, c.attnotnull, c.attidentity)'),
        'pg_redshift.encoding_number(pg_redshift.encoding(s.encodings ->> c.attnum::text, c.atttypid, c.attnum = ANY (s.sort_keys)))
            AS attencodingtype,
        coalesce(c.attnum = s.dist_key, false) AS attisdistkey, coalesce(CASE WHEN s.interleaved
            THEN (-1) ^ array_position(s.sort_keys, c.attnum) ELSE 1 END * array_position(s.sort_keys, c.attnum), 0)::smallint
            AS attsortkeyord',
        pg_redshift.columns_of('pg_catalog.pg_attribute', 'attrelid', 'pg_redshift.stored_as(c.attrelid)',
            'attname', 'pg_redshift.full_name(c.attname)'),
        pg_redshift.columns_of('pg_catalog.pg_attribute', 'attrelid', 'pg_redshift.stored_as(c.attrelid)',
            'attname', 'own.name', 'attnum', 'v.relnatts + own.place', 'atttypid', '''int8''::regtype::oid', 'attlen', '8::int2',
            'atttypmod', '-1', 'attnotnull', 'false', 'atthasdef', 'false'));
END $$;
CREATE VIEW pg_redshift.pg_views AS
SELECT pg_redshift.full_name(n.nspname) AS schemaname, pg_redshift.full_name(c.relname) AS viewname, pg_get_userbyid(c.relowner) AS viewowner,
       pg_redshift.view_definition(c.oid) AS definition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'v' AND n.nspname <> 'pg_redshift'
UNION ALL
SELECT pg_redshift.full_name(schemaname), pg_redshift.full_name(matviewname), matviewowner,
       pg_redshift.full_text(format('create materialized view %I.%I as (%s);', schemaname, matviewname, rtrim(definition, ';')))
FROM pg_catalog.pg_matviews;
DO $$
DECLARE
    found record;
BEGIN
    -- With long names: the same columns, but those with names are VARCHARs.
    FOR found IN SELECT c.oid, c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE c.oid IN ('pg_catalog.pg_namespace'::regclass, 'pg_catalog.pg_tables'::regclass, 'pg_catalog.pg_user'::regclass,
                    'information_schema.tables'::regclass, 'information_schema.columns'::regclass, 'information_schema.views'::regclass,
                    'information_schema.schemata'::regclass) LOOP
        EXECUTE format('DROP VIEW IF EXISTS pg_redshift.%I CASCADE', found.relname);
        EXECUTE format('CREATE VIEW pg_redshift.%1$I AS SELECT %2$s FROM %3$I.%1$I AS c %4$s', found.relname,
            (SELECT string_agg(format(CASE WHEN a.atttypid IN ('name'::regtype, 'information_schema.sql_identifier'::regtype)
                 THEN 'pg_redshift.full_name(c.%1$I::name) AS %1$I'
                 WHEN a.attname = 'view_definition' THEN 'pg_redshift.full_text(c.%1$I)::varchar AS %1$I' ELSE 'c.%1$I' END,
                 a.attname), ', ' ORDER BY a.attnum)
             FROM pg_attribute a WHERE a.attrelid = found.oid AND a.attnum > 0 AND NOT a.attisdropped),
            found.nspname,
            (SELECT format('WHERE c.%I <> ''pg_redshift''', a.attname) FROM pg_attribute a
             WHERE a.attrelid = found.oid AND a.attname IN ('nspname', 'schemaname', 'schema_name', 'table_schema'))
            || CASE found.relname WHEN 'pg_tables' THEN ' UNION ALL SELECT pg_redshift.full_name(schemaname),
                ''mv_tbl__'' || pg_redshift.full_name(matviewname) || ''__0'', matviewowner, NULL, false, false, false, false
                FROM pg_catalog.pg_matviews' ELSE '' END);
        EXECUTE format('GRANT SELECT ON pg_redshift.%I TO PUBLIC', found.relname);
    END LOOP;
END $$;
GRANT SELECT ON pg_redshift.pg_class, pg_redshift.pg_attribute, pg_redshift.pg_views TO PUBLIC;

-- There is no external catalog here.
CREATE VIEW pg_catalog.svv_external_schemas AS
SELECT NULL::oid AS esoid, NULL::smallint AS eskind, NULL::text AS schemaname, NULL::integer AS esowner,
       NULL::text AS databasename, NULL::text AS esoptions WHERE false;
CREATE VIEW pg_catalog.svv_external_tables AS
SELECT NULL::text AS redshift_database_name, NULL::text AS schemaname, NULL::text AS tablename, NULL::text AS tabletype,
       NULL::text AS location, NULL::text AS parameters WHERE false;
CREATE VIEW pg_catalog.svv_external_columns AS
SELECT NULL::text AS redshift_database_name, NULL::text AS schemaname, NULL::text AS tablename,
       NULL::text AS columnname, NULL::text AS external_type, NULL::integer AS columnnum, NULL::integer AS part_key,
       NULL::text AS is_nullable WHERE false;

-- https://docs.aws.amazon.com/redshift/latest/dg/r_SHOW_TABLE.html
-- Unverified: the order of IDENTITY, DEFAULT and NOT NULL.
CREATE OR REPLACE FUNCTION pg_redshift.show_table(name text) RETURNS text LANGUAGE sql STABLE AS $$
SELECT 'CREATE TABLE ' || quote_ident(schema_name) || '.' || quote_ident(table_name) || E' (\n' || string_agg('    ' || quote_ident(column_name) || ' '
    || CASE WHEN character_maximum_length IS NOT NULL THEN data_type || '(' || character_maximum_length || ')'
            WHEN data_type = 'numeric' THEN 'numeric(' || numeric_precision || ',' || numeric_scale || ')'
            ELSE data_type END
    || CASE is_nullable WHEN 'NO' THEN ' NOT NULL' ELSE '' END
    || coalesce(CASE WHEN column_default LIKE '"identity"(%' THEN ' identity(' || split_part(column_default, '''', 2) || ')'
                     WHEN column_default LIKE '"default_identity"(%' THEN ' default identity(' || split_part(column_default, '''', 2) || ')'
                     ELSE ' DEFAULT ' || column_default END, '')
    || coalesce(' ENCODE ' || nullif(encoding, 'none'), '') || CASE dist_key WHEN 1 THEN ' distkey' ELSE '' END, E',\n' ORDER BY ordinal_position)
    || coalesce((SELECT string_agg(E',\n    ' || pg_redshift.full_text(k.definition), '') FROM pg_redshift.keys k WHERE k.relation = name::regclass), '')
    || E'\n)\nDISTSTYLE ' || coalesce((SELECT split_part(s.style, '(', 1)
            || CASE cardinality(s.sort_keys) WHEN 0 THEN '' ELSE ' ' || CASE WHEN s.interleaved THEN 'INTERLEAVED ' ELSE '' END || 'SORTKEY ( '
                || (SELECT string_agg(quote_ident(pg_redshift.full_name(a.attname)), ', ' ORDER BY k.place)
                    FROM unnest(s.sort_keys) WITH ORDINALITY AS k (number, place)
                    JOIN pg_attribute a ON a.attrelid = s.relation AND a.attnum = k.number) || ' )' END
        FROM pg_redshift.storage s WHERE s.relation = name::regclass), 'AUTO') || ';'
FROM pg_redshift.all_columns WHERE relation = name::regclass GROUP BY schema_name, table_name $$;
GRANT SELECT ON pg_redshift.all_columns, pg_redshift.all_tables, pg_redshift.keys, pg_redshift.storage, pg_redshift.stored,
    pg_redshift.relation_privileges, pg_redshift.column_privileges, pg_redshift.schema_privileges, pg_redshift.functions,
    pg_redshift.parameters, pg_catalog.pg_table_def TO PUBLIC;
