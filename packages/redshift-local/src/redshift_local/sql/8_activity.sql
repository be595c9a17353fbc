-- System views of users, roles, sessions and loads.
-- https://docs.aws.amazon.com/redshift/latest/dg/cm_chap_system-tables.html

-- A comment distinguishes roles from groups: see commands/privileges.py.
CREATE OR REPLACE VIEW pg_redshift.identities AS
SELECT r.oid, pg_redshift.full_name(r.rolname) AS name, r.rolcreatedb, r.rolsuper, r.rolconnlimit, r.rolvaliduntil,
       CASE WHEN r.rolcanlogin THEN 'user' WHEN shobj_description(r.oid, 'pg_authid') = 'role' THEN 'role' ELSE 'group' END::varchar
           AS kind
FROM pg_roles r WHERE r.rolname !~ '^pg_' AND r.rolname <> 'postgres';
CREATE OR REPLACE VIEW pg_redshift.pg_group AS
SELECT name::name AS groname, oid AS grosysid, ARRAY(SELECT m.member FROM pg_auth_members m WHERE m.roleid = i.oid) AS grolist
FROM pg_redshift.identities i WHERE kind = 'group';
GRANT SELECT ON pg_redshift.identities, pg_redshift.pg_group TO PUBLIC;

CREATE VIEW pg_catalog.svv_user_info AS
SELECT name AS user_name, oid::integer AS user_id, rolcreatedb AS createdb, rolsuper AS superuser, rolsuper AS catalog_update,
       CASE rolconnlimit WHEN -1 THEN 'UNLIMITED' ELSE rolconnlimit::text END::varchar AS connection_limit,
       CASE WHEN rolsuper THEN 'UNRESTRICTED' ELSE 'RESTRICTED' END::varchar AS syslog_access,
       NULL::timestamp AS last_ddl_timestamp, 0 AS session_timeout, NULL::varchar AS external_id
FROM pg_redshift.identities WHERE kind = 'user' AND (pg_redshift.is_admin() OR name = pg_redshift.full_name(current_user));
CREATE VIEW pg_catalog.svl_user_info AS
SELECT user_name AS usename, user_id AS usesysid, createdb AS usecreatedb, superuser AS usesuper, catalog_update AS usecatupd,
       connection_limit AS useconnlimit, syslog_access AS syslogaccess, last_ddl_timestamp AS last_ddl_ts,
       session_timeout AS sessiontimeout, external_id AS external_user_id
FROM pg_catalog.svv_user_info;
CREATE VIEW pg_catalog.svv_roles AS
SELECT oid::integer AS role_id, name AS role_name, NULL::varchar AS role_owner, NULL::varchar AS external_id
FROM pg_redshift.identities WHERE kind = 'role';
CREATE VIEW pg_catalog.svv_role_grants AS
SELECT r.oid::integer AS role_id, r.name AS role_name, g.oid::integer AS granted_role_id, g.name AS granted_role_name
FROM pg_auth_members m JOIN pg_redshift.identities r ON r.oid = m.member AND r.kind = 'role'
JOIN pg_redshift.identities g ON g.oid = m.roleid AND g.kind = 'role';
CREATE VIEW pg_catalog.svv_user_grants AS
SELECT u.oid::integer AS user_id, u.name AS user_name, g.oid::integer AS role_id, g.name AS role_name, m.admin_option
FROM pg_auth_members m JOIN pg_redshift.identities u ON u.oid = m.member AND u.kind = 'user'
JOIN pg_redshift.identities g ON g.oid = m.roleid AND g.kind = 'role'
WHERE pg_redshift.is_admin() OR u.name = pg_redshift.full_name(current_user);

CREATE VIEW pg_catalog.svv_database_privileges AS
SELECT pg_redshift.full_name(d.datname) AS database_name, CASE a.privilege_type WHEN 'TEMPORARY' THEN 'TEMP' ELSE a.privilege_type END::varchar
           AS privilege_type, a.grantee::integer AS identity_id, coalesce(i.name, 'public')::varchar AS identity_name,
       coalesce(i.kind, 'public')::varchar AS identity_type, a.is_grantable AS admin_option
FROM pg_database d CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
LEFT JOIN pg_redshift.identities i ON i.oid = a.grantee
WHERE d.datname NOT IN ('postgres', 'template0', 'template1') AND a.privilege_type <> 'CONNECT';
CREATE VIEW pg_catalog.svv_column_privileges AS
SELECT pg_redshift.full_name(n.nspname) AS namespace_name, pg_redshift.full_name(c.relname) AS relation_name, pg_redshift.full_name(t.attname) AS column_name,
       a.privilege_type::varchar, a.grantee::integer AS identity_id, coalesce(i.name, 'public')::varchar AS identity_name,
       coalesce(i.kind, 'public')::varchar AS identity_type
FROM pg_attribute t JOIN pg_class c ON c.oid = t.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL aclexplode(t.attacl) a LEFT JOIN pg_redshift.identities i ON i.oid = a.grantee
WHERE t.attnum > 0 AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_redshift');
CREATE VIEW pg_catalog.svv_default_privileges AS
SELECT pg_redshift.full_name(n.nspname) AS schema_name,
       CASE d.defaclobjtype WHEN 'r' THEN 'RELATION' WHEN 'f' THEN 'FUNCTION' ELSE d.defaclobjtype::text END::varchar AS object_type,
       o.oid::integer AS owner_id, o.name AS owner_name, o.kind AS owner_type, a.privilege_type::varchar,
       a.grantee::integer AS grantee_id, coalesce(i.name, 'public')::varchar AS grantee_name,
       coalesce(i.kind, 'public')::varchar AS grantee_type, a.is_grantable AS admin_option
FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
JOIN pg_redshift.identities o ON o.oid = d.defaclrole
CROSS JOIN LATERAL aclexplode(d.defaclacl) a LEFT JOIN pg_redshift.identities i ON i.oid = a.grantee;

CREATE VIEW pg_catalog.stv_sessions AS
SELECT backend_start AT TIME ZONE 'UTC' AS starttime, pid AS process, usename::char(50) AS user_name, datname::char(50) AS db_name,
       0 AS timeout_sec
FROM pg_stat_activity WHERE backend_type = 'client backend' AND usename !~ '^pg_' AND usename <> 'postgres';
CREATE VIEW pg_catalog.svv_transactions AS
SELECT pg_redshift.full_name(a.usename) AS txn_owner, current_database()::varchar AS txn_db, a.backend_xid::text::bigint AS xid, a.pid,
       a.xact_start AT TIME ZONE 'UTC' AS txn_start, l.mode::varchar AS lock_mode,
       CASE l.locktype WHEN 'relation' THEN 'relation' ELSE 'transactionid' END::varchar AS lockable_object_type,
       l.relation::integer AS relation, l.granted
FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid
WHERE a.xact_start IS NOT NULL AND l.locktype IN ('relation', 'transactionid') AND a.usename IS NOT NULL;
CREATE VIEW pg_catalog.stv_tbl_perm AS
SELECT 0 AS slice, c.oid::integer AS id, c.relname::char(72) AS name, pg_redshift.row_count(c.oid) AS rows,
       pg_redshift.row_count(c.oid) AS sorted_rows, (c.relpersistence = 't')::integer AS temp,
       (SELECT oid FROM pg_database WHERE datname = current_database())::integer AS db_id, 0 AS insert_pristine,
       0 AS delete_pristine, 1 AS backup
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_redshift', 'pg_toast');

-- Statement texts, in parts of 200 characters.
CREATE OR REPLACE VIEW pg_redshift.texts AS
SELECT user_id AS userid, query_id AS xid, session_id AS pid, query_id AS query, query_label AS label,
       start_time AT TIME ZONE 'UTC' AS starttime, end_time AT TIME ZONE 'UTC' AS endtime, part AS sequence,
       CASE WHEN verb IN ('CREATE', 'ALTER', 'DROP', 'TRUNCATE', 'GRANT', 'REVOKE', 'COMMENT') THEN 'DDL'
            WHEN verb IN ('SELECT', 'WITH', 'INSERT', 'UPDATE', 'DELETE', 'COPY', 'UNLOAD', 'MERGE') THEN 'QUERY'
            ELSE 'UTILITY' END AS type,
       substr(query_text, part * 200 + 1, 200)::char(200) AS text
FROM pg_redshift.seen_queries, generate_series(0, (greatest(length(query_text), 1) - 1) / 200) AS part;
CREATE VIEW pg_catalog.stl_querytext AS
SELECT userid, xid, pid, query, sequence, text FROM pg_redshift.texts WHERE type = 'QUERY';
CREATE VIEW pg_catalog.svl_statementtext AS
SELECT userid, xid, pid, label::varchar(320), starttime, endtime, sequence, type::varchar(10), text FROM pg_redshift.texts;
CREATE VIEW pg_catalog.stl_ddltext AS
SELECT userid, xid, pid, label::char(320), starttime, endtime, sequence, text FROM pg_redshift.texts WHERE type = 'DDL';
CREATE VIEW pg_catalog.stl_utilitytext AS
SELECT userid, xid, pid, label::char(320), starttime, endtime, sequence, text FROM pg_redshift.texts WHERE type = 'UTILITY';

-- The system never undoes a transaction here.
CREATE VIEW pg_catalog.stl_undone AS
SELECT NULL::integer AS userid, NULL::bigint AS xact_id, NULL::bigint AS xact_id_undone, NULL::timestamp AS undo_start_ts,
       NULL::timestamp AS undo_end_ts, NULL::bigint AS table_id WHERE false;
CREATE VIEW pg_catalog.sys_load_history AS
SELECT user_id, query_id, query_id AS transaction_id, session_id, current_database()::varchar AS database_name,
       CASE WHEN error_code IS NULL THEN 'completed' ELSE 'aborted' END::varchar AS status,
       (regexp_match(query_text, 'copy\s+([^\s(]+)', 'i'))[1]::varchar AS table_name, start_time AT TIME ZONE 'UTC' AS start_time,
       end_time AT TIME ZONE 'UTC' AS end_time, elapsed AS duration,
       (regexp_match(query_text, 'from\s+''([^'']*)''', 'i'))[1]::varchar AS data_source,
       CASE WHEN tag ~ '^COPY \d+$' THEN split_part(tag, ' ', 2)::bigint ELSE 0 END AS loaded_rows, error_message::varchar
FROM pg_redshift.seen_queries WHERE verb = 'COPY';

CREATE OR REPLACE FUNCTION pg_catalog.pg_last_unload_id() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$
SELECT coalesce(max(query_id), -1) FROM pg_redshift.queries WHERE session_id = pg_backend_pid() AND tag LIKE 'UNLOAD%' $$;
CREATE OR REPLACE FUNCTION pg_catalog.db_collation() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'case_sensitive' $$;

-- Everyone can read pg_catalog, except where rows are filtered above.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'v'
                 AND relname ~ '^(svv|stv|stl|svl|sys)_' LOOP
        EXECUTE format('GRANT SELECT ON pg_catalog.%I TO PUBLIC', found.relname);
    END LOOP;
END $$;
