-- System views of the query history. https://docs.aws.amazon.com/redshift/latest/dg/serverless_views-monitoring.html
-- Superusers see all statements, other users see their own.

DROP VIEW IF EXISTS pg_redshift.seen_queries CASCADE;
CREATE VIEW pg_redshift.seen_queries AS
SELECT r.oid::integer AS user_id, q.*,
       CASE WHEN q.tag <> '' THEN split_part(q.tag, ' ', 1) ELSE upper(split_part(ltrim(
           regexp_replace(q.query_text, '^\s*/\*.*?\*/', ''), E' \n\t('), ' ', 1)) END AS verb,
       (extract(epoch FROM q.end_time - q.start_time) * 1000000)::bigint AS elapsed
FROM pg_redshift.queries q LEFT JOIN pg_roles r ON r.rolname = q.user_name
WHERE pg_redshift.is_admin() OR q.user_name = current_user;

CREATE VIEW pg_catalog.sys_query_history AS
SELECT user_id, query_id, query_label::varchar(320), query_id AS transaction_id, session_id,
       current_database()::varchar AS database_name,
       CASE WHEN verb IN ('CREATE', 'ALTER', 'DROP', 'TRUNCATE', 'GRANT', 'REVOKE', 'COMMENT') THEN 'DDL'
            WHEN verb IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'COPY', 'UNLOAD', 'MERGE') THEN verb
            ELSE 'UTILITY' END::varchar(32) AS query_type,
       CASE WHEN error_code IS NULL THEN 'success' WHEN error_code = '57014' THEN 'canceled' ELSE 'failed' END::varchar(10)
           AS status,
       false AS result_cache_hit, start_time AT TIME ZONE 'UTC' AS start_time, end_time AT TIME ZONE 'UTC' AS end_time,
       elapsed AS elapsed_time, 0::bigint AS queue_time, elapsed AS execution_time, error_message::varchar(512),
       returned_rows, 0::bigint AS returned_bytes, query_text::varchar(4000), 'local'::varchar(256) AS redshift_version,
       NULL::varchar(150) AS usage_limit, NULL::varchar(32) AS compute_type, 0::bigint AS compile_time,
       0::bigint AS planning_time, 0::bigint AS lock_wait_time, user_name::varchar AS username
FROM pg_redshift.seen_queries;
CREATE VIEW pg_catalog.sys_query_text AS
SELECT user_id, query_id, query_id AS transaction_id, session_id, start_time AT TIME ZONE 'UTC' AS start_time, part AS sequence,
       substr(query_text, part * 200 + 1, 200)::char(200) AS text
FROM pg_redshift.seen_queries, generate_series(0, (greatest(length(query_text), 1) - 1) / 200) AS part;
-- Only insert steps are recorded: dbt reads from them when a source was last modified. Tables are matched
-- by name. https://docs.aws.amazon.com/redshift/latest/dg/SYS_QUERY_DETAIL.html
CREATE VIEW pg_catalog.sys_query_detail AS
SELECT user_id, query_id, to_regclass(target)::oid::integer AS table_id, 'insert'::varchar AS step_name,
       start_time AT TIME ZONE 'UTC' AS start_time, end_time AT TIME ZONE 'UTC' AS end_time, elapsed AS duration,
       CASE WHEN tag <> 'DO' THEN returned_rows END AS output_rows, -- a CREATE TABLE AS is not counted
       'step'::varchar AS metrics_level, NULL::bigint AS input_bytes
FROM pg_redshift.seen_queries WHERE target <> '' AND error_code IS NULL;
CREATE VIEW pg_catalog.stl_query AS
SELECT user_id AS userid, query_id AS query, query_label::char(320) AS label, query_id AS xid, session_id AS pid,
       current_database()::char(32) AS database, query_text::char(4000) AS querytxt,
       start_time AT TIME ZONE 'UTC' AS starttime, end_time AT TIME ZONE 'UTC' AS endtime,
       (error_code = '57014')::integer AS aborted
FROM pg_redshift.seen_queries;
CREATE VIEW pg_catalog.svl_qlog AS
SELECT user_id AS userid, query_id AS query, query_id AS xid, session_id AS pid,
       start_time AT TIME ZONE 'UTC' AS starttime, end_time AT TIME ZONE 'UTC' AS endtime, elapsed,
       (error_code = '57014')::integer AS aborted, query_label::char(30) AS label, left(query_text, 60)::char(60) AS substring
FROM pg_redshift.seen_queries;
-- It has no values of fields, unlike stl_load_errors. https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_ERROR_DETAIL.html
CREATE VIEW pg_catalog.sys_load_error_detail AS
SELECT r.oid::integer AS user_id, e.query_id, e.query_id AS transaction_id, e.session_id,
       current_database()::char(64) AS database_name, to_regclass(e.table_name)::oid::integer AS table_id,
       e.start_time AT TIME ZONE 'UTC' AS start_time, e.file_name::char(256), e.line_number,
       pg_redshift.long_name(e.column_name)::char(127) AS column_name, e.type::char(10) AS column_type,
       e.length::char(10) AS column_length, 0 AS position, e.error_code, e.error_message::char(512)
FROM pg_redshift.load_errors e LEFT JOIN pg_roles r ON r.rolname = e.user_name
WHERE pg_redshift.is_admin() OR e.user_name = current_user;
CREATE VIEW pg_catalog.stl_load_errors AS
SELECT r.oid::integer AS userid, 0 AS slice, to_regclass(e.table_name)::oid::integer AS tbl,
       e.start_time AT TIME ZONE 'UTC' AS starttime, e.session_id AS session, e.query_id AS query,
       e.file_name::char(256) AS filename, e.line_number, pg_redshift.long_name(e.column_name)::char(127) AS colname, e.type::char(10),
       e.length::char(10) AS col_length, 0 AS position, e.raw_line::char(1024), e.raw_value::char(1024) AS raw_field_value,
       e.error_code AS err_code, e.error_message::char(100) AS err_reason
FROM pg_redshift.load_errors e LEFT JOIN pg_roles r ON r.rolname = e.user_name
WHERE pg_redshift.is_admin() OR e.user_name = current_user;
CREATE VIEW pg_catalog.sys_session_history AS
SELECT DISTINCT user_name::varchar, session_id FROM pg_redshift.seen_queries;

-- https://docs.aws.amazon.com/redshift/latest/dg/PG_LAST_QUERY_ID.html
CREATE OR REPLACE FUNCTION pg_catalog.pg_last_query_id() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$
SELECT coalesce(max(query_id), -1) FROM pg_redshift.queries WHERE session_id = pg_backend_pid()
    AND start_time >= (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()) $$;
CREATE OR REPLACE FUNCTION pg_catalog.pg_last_copy_count() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('pg_redshift.copy_count', true), ''), '0')::bigint $$;
CREATE OR REPLACE FUNCTION pg_catalog.pg_last_copy_id() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER AS $$
SELECT coalesce(max(query_id), -1) FROM pg_redshift.queries WHERE session_id = pg_backend_pid() AND tag LIKE 'COPY%' $$;

-- For the connector's metadata calls. https://docs.aws.amazon.com/redshift/latest/dg/r_PG_PROC.html
CREATE OR REPLACE VIEW pg_catalog.pg_proc_info AS
SELECT p.*, p.oid AS prooid FROM pg_proc p;
GRANT SELECT ON pg_catalog.pg_proc_info TO PUBLIC;
CREATE OR REPLACE FUNCTION pg_catalog.pg_last_unload_count() RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('pg_redshift.unload_count', true), ''), '0')::bigint $$;

-- Late-binding views have their own function and are not among the columns that information_schema knows; materialized
-- views are views there.
DO $$
DECLARE
    columns text := rtrim(pg_get_viewdef('information_schema.columns'::regclass), ';');
    tables text := rtrim(pg_get_viewdef('information_schema.tables'::regclass), ';');
BEGIN
    IF columns NOT LIKE '%late_binding_views%' THEN
        columns := columns || ' AND NOT EXISTS (SELECT FROM pg_redshift.late_binding_views l WHERE l.view = c.oid)';
    END IF;
    IF columns NOT LIKE '%pg_redshift.format_type%' THEN
        columns := replace(columns, 'format_type(', 'pg_redshift.format_type(');
        columns := replace(columns, '''v''::"char", ', '''v''::"char", ''m''::"char", ');
        tables := replace(tables, '''v''::"char", ', '''v''::"char", ''m''::"char", ');
        tables := replace(tables, 'c.relkind = ''v''::"char"', 'c.relkind = ANY (ARRAY[''v''::"char", ''m''::"char"])');
        EXECUTE 'CREATE OR REPLACE VIEW information_schema.tables AS ' || tables;
    END IF;
    EXECUTE 'CREATE OR REPLACE VIEW information_schema.columns AS ' || columns;
END $$;

-- information_schema has no definition for a view that reads a dropped table. Materialized views are views
-- to Redshift's clients, with CREATE MATERIALIZED VIEW in their definition.
DO $$
DECLARE
    plain text := rtrim(pg_get_viewdef('information_schema.views'::regclass), ';');
BEGIN
    IF plain NOT LIKE '%pg_matviews%' THEN
        EXECUTE 'CREATE OR REPLACE VIEW information_schema.views AS '
            || replace(plain, 'pg_get_viewdef(c.oid)', 'pg_redshift.view_definition(c.oid)') || '
            UNION ALL SELECT current_database()::information_schema.sql_identifier,
                schemaname::information_schema.sql_identifier, matviewname::information_schema.sql_identifier,
                (''create materialized view '' || matviewname || '' as '' || definition)::information_schema.character_data,
                ''NONE''::information_schema.character_data, ''NO''::information_schema.yes_or_no,
                ''NO''::information_schema.yes_or_no, ''NO''::information_schema.yes_or_no,
                ''NO''::information_schema.yes_or_no, ''NO''::information_schema.yes_or_no FROM pg_catalog.pg_matviews';
    END IF;
END $$;

-- The result of a computation with DECIMALs has a precision and a scale in Redshift, but not in PostgreSQL.
CREATE OR REPLACE FUNCTION information_schema._pg_numeric_precision(typid oid, typmod int4) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
SELECT CASE typid WHEN 21 THEN 16 WHEN 23 THEN 32 WHEN 20 THEN 64 WHEN 700 THEN 24 WHEN 701 THEN 53
    WHEN 1700 THEN CASE WHEN typmod = -1 THEN 38 ELSE ((typmod - 4) >> 16) & 65535 END END $$;
CREATE OR REPLACE FUNCTION information_schema._pg_numeric_scale(typid oid, typmod int4) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
SELECT CASE WHEN typid IN (21, 23, 20) THEN 0
    WHEN typid = 1700 THEN CASE WHEN typmod = -1 THEN 37 ELSE (typmod - 4) & 65535 END END $$;
