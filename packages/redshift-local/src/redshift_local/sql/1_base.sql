-- Functions, types and views that Redshift has and PostgreSQL lacks. These files run in every database; running them again is safe.

CREATE SCHEMA IF NOT EXISTS pg_redshift;
GRANT USAGE ON SCHEMA pg_redshift TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;

-- Refusals of the gateway, and errors in Redshift's words.
CREATE OR REPLACE FUNCTION pg_redshift.refuse(code text, message text, hint text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF hint = '' THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
END $$;

-- Names of 64 to 127 bytes, by the short ones that PostgreSQL has (parse/longnames.py).
CREATE TABLE IF NOT EXISTS pg_redshift.long_names (short text PRIMARY KEY, name text NOT NULL);
GRANT SELECT ON pg_redshift.long_names TO PUBLIC;
-- TEXT and not VARCHAR: the UNION of a VARCHAR and a NAME is a NAME in PostgreSQL, which cuts long names off.
DROP FUNCTION IF EXISTS pg_redshift.long_name(text), pg_redshift.full_name(name), pg_redshift.current_schema() CASCADE;
CREATE OR REPLACE FUNCTION pg_redshift.long_name(short text) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce((SELECT l.name FROM pg_redshift.long_names l WHERE l.short = $1), $1) $$;
-- In two functions, because PostgreSQL inlines only the one without a subquery.
CREATE OR REPLACE FUNCTION pg_redshift.full_name(name) RETURNS text LANGUAGE sql STABLE AS
$$ SELECT CASE WHEN octet_length($1::text) < 60 THEN $1::text ELSE pg_redshift.long_name($1::text) END $$;
-- In a text with names, such as the definition of a view.
CREATE OR REPLACE FUNCTION pg_redshift.full_text(text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    found record;
    result text := $1;
BEGIN
    IF $1 ~ '_[0-9a-f]{16}' THEN
        FOR found IN SELECT * FROM pg_redshift.long_names l WHERE strpos($1, l.short) > 0 LOOP
            result := replace(result, '"' || found.short || '"', quote_ident(found.name));
            result := replace(result, found.short, quote_ident(found.name));
        END LOOP;
    END IF;
    RETURN result;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.current_schema() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT pg_redshift.full_name(pg_catalog.current_schema()) $$;

-- Stores a user's verifier in pg_authid. Only the user, superusers and CREATEROLE users can change it.
CREATE OR REPLACE FUNCTION pg_redshift.set_password(name text, verifier text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET allow_system_table_mods = on AS $$
BEGIN
    IF session_user <> name
       AND NOT EXISTS (SELECT FROM pg_authid WHERE rolname = session_user AND (rolsuper OR rolcreaterole)) THEN
        RAISE insufficient_privilege USING MESSAGE = 'permission denied to alter user';
    END IF;
    UPDATE pg_authid SET rolpassword = verifier WHERE rolname = name;
    IF NOT FOUND THEN
        RAISE undefined_object USING MESSAGE = format('user "%s" does not exist', name);
    END IF;
END $$;

-- Records of the gateway; the sys_ and stl_ views read them.
CREATE TABLE IF NOT EXISTS pg_redshift.queries (
    query_id bigint, user_name text, session_id integer, query_label text, query_text text, start_time timestamptz,
    end_time timestamptz, returned_rows bigint, tag text, error_code text, error_message text
);
ALTER TABLE pg_redshift.queries ADD COLUMN IF NOT EXISTS target text;
CREATE INDEX IF NOT EXISTS queries_by_session ON pg_redshift.queries (session_id, query_id);
CREATE TABLE IF NOT EXISTS pg_redshift.load_errors (
    query_id bigint, session_id integer, user_name text, table_name text, start_time timestamptz, file_name text,
    line_number bigint, column_name text, type text, length text, raw_line text, raw_value text, error_code integer,
    error_message text
);

-- Primary, unique and foreign keys, which Redshift records and does not enforce.
CREATE TABLE IF NOT EXISTS pg_redshift.keys (relation oid NOT NULL, definition text NOT NULL);
CREATE OR REPLACE FUNCTION pg_redshift.record_key(relation text, definition text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO pg_redshift.keys SELECT c.oid, definition FROM pg_class c
    WHERE c.oid = to_regclass(relation) AND NOT EXISTS (
        SELECT FROM pg_redshift.keys k WHERE k.relation = c.oid AND k.definition = record_key.definition);
END $$;

-- An unnamed key gets PostgreSQL's default name: table_pkey.
CREATE OR REPLACE FUNCTION pg_redshift.forget_key(relation text, key text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM pg_redshift.keys k WHERE k.relation = forget_key.relation::regclass
        AND (starts_with(lower(replace(k.definition, '"', '')), 'constraint ' || lower(key) || ' ')
             OR (k.definition ILIKE 'primary key%'
                 AND pg_redshift.full_name(key::name) = (SELECT pg_redshift.full_name(relname) || '_pkey' FROM pg_class
                                                   WHERE oid = forget_key.relation::regclass)));
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = '42704',
            MESSAGE = format('constraint "%s" of relation "%s" does not exist', key, forget_key.relation);
    END IF;
END $$;

-- Distribution, sort keys and encodings, by the numbers of their columns.
CREATE TABLE IF NOT EXISTS pg_redshift.storage (
    relation oid PRIMARY KEY, style text NOT NULL, dist_key smallint, sort_keys smallint[] NOT NULL, interleaved boolean NOT NULL,
    encodings jsonb NOT NULL
);
ALTER TABLE pg_redshift.storage ADD COLUMN IF NOT EXISTS auto_refresh boolean;
CREATE OR REPLACE FUNCTION pg_redshift.column_number(relation oid, name text) RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    found smallint := (SELECT attnum FROM pg_attribute WHERE attrelid = relation AND attname = name AND NOT attisdropped);
BEGIN
    IF found IS NULL THEN
        RAISE undefined_column USING MESSAGE = format('column "%s" named in key does not exist', name);
    END IF;
    RETURN found;
END $$;
-- Null and empty arguments keep the recorded value.
CREATE OR REPLACE FUNCTION pg_redshift.record_storage(
    name text, new_style text, key text, keys text[], new_interleaved boolean, pairs text[]
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    made oid := to_regclass(name);
BEGIN
    INSERT INTO pg_redshift.storage VALUES (made, 'AUTO(ALL)', NULL, '{}', false, '{}', false) ON CONFLICT DO NOTHING;
    UPDATE pg_redshift.storage SET
        style = coalesce(CASE new_style WHEN 'AUTO' THEN 'AUTO(ALL)' ELSE nullif(new_style, '') END, style),
        dist_key = CASE WHEN key <> '' THEN pg_redshift.column_number(made, key)
                        WHEN new_style = '' THEN dist_key END,
        sort_keys = coalesce((SELECT coalesce(array_agg(pg_redshift.column_number(made, k)), '{}') FROM unnest(keys) AS k
                              WHERE keys IS NOT NULL HAVING keys IS NOT NULL), sort_keys),
        interleaved = CASE WHEN keys IS NULL THEN interleaved ELSE new_interleaved END,
        encodings = encodings || (SELECT coalesce(jsonb_object_agg(pg_redshift.column_number(made, pairs[i]), pairs[i + 1]), '{}')
                                  FROM generate_series(1, coalesce(array_length(pairs, 1), 0), 2) AS i)
    WHERE relation = made;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.set_auto_refresh(name text, value boolean) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
INSERT INTO pg_redshift.storage VALUES (name::regclass, 'EVEN', NULL, '{}', false, '{}', value)
ON CONFLICT (relation) DO UPDATE SET auto_refresh = value $$;
CREATE OR REPLACE FUNCTION pg_redshift.copy_storage(name text, source text) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
INSERT INTO pg_redshift.storage SELECT to_regclass(name), style, dist_key, sort_keys, interleaved, encodings
FROM pg_redshift.storage WHERE relation = to_regclass(source) ON CONFLICT DO NOTHING $$;

-- Whether a query fails because a column is missing (and for no other reason).
CREATE OR REPLACE FUNCTION pg_redshift.lacks_column(query text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'PREPARE pg_redshift_check AS ' || query;
    DEALLOCATE pg_redshift_check;
    RETURN false;
EXCEPTION
    WHEN undefined_column THEN RETURN true;
    WHEN OTHERS THEN RETURN false;
END $$;

-- SUPER holds JSON. As json, unlike jsonb, it keeps the order of an object's keys.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_SUPER_type.html
DO $$
DECLARE
    count_columns text := 'SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid WHERE NOT attisdropped AND attnum > 0
        AND relnamespace NOT IN (''pg_catalog''::regnamespace, ''pg_redshift''::regnamespace, ''information_schema''::regnamespace)';
    count_functions text := 'SELECT count(*) FROM pg_proc
        WHERE pronamespace NOT IN (''pg_catalog''::regnamespace, ''pg_redshift''::regnamespace, ''information_schema''::regnamespace)';
    columns_before bigint;
    columns_after bigint;
    functions_before bigint;
    functions_after bigint;
    function regprocedure;
BEGIN
    -- Earlier versions stored it as jsonb.
    IF (SELECT typbasetype = 'jsonb'::regtype FROM pg_type WHERE oid = to_regtype('pg_catalog.super')) THEN
        EXECUTE count_columns INTO columns_before;
        EXECUTE count_functions INTO functions_before;
        FOR function IN SELECT oid FROM pg_proc WHERE oid >= 16384 AND 'jsonb'::regtype = ANY (prorettype || proargtypes::oid[]) LOOP
            EXECUTE format('DROP FUNCTION %s CASCADE', function);
        END LOOP;
        DROP DOMAIN pg_catalog.super CASCADE;
        EXECUTE count_columns || ' AND atttypid <> ''jsonb''::regtype' INTO columns_after;
        EXECUTE count_functions INTO functions_after;
        IF columns_after < columns_before OR functions_after < functions_before THEN
            RAISE EXCEPTION 'its tables, views or functions use SUPER';
        END IF;
    END IF;
    IF to_regtype('pg_catalog.super') IS NULL THEN
        CREATE DOMAIN pg_catalog.super AS json;
    END IF;
END $$;

-- Redshift's names of types; the length of a string is unknown unless it was declared. A computed DECIMAL
-- is shown as NUMERIC(38,37), which the translation reads as one without limits, so that clients can write it back.
CREATE OR REPLACE FUNCTION pg_redshift.format_type(type oid, modifier integer) RETURNS text LANGUAGE sql STABLE AS $$
SELECT CASE WHEN type = 'text'::regtype THEN 'character varying'
    WHEN type IN ('json'::regtype, 'super'::regtype) THEN 'super'
    WHEN type = 'bytea'::regtype THEN 'binary varying'
    WHEN type = 'numeric'::regtype AND modifier = -1 THEN 'numeric(38,37)'
    ELSE pg_catalog.format_type(type, modifier) END $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/r_VERSION.html
CREATE OR REPLACE FUNCTION pg_redshift.version() RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT 'PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), '
    'Redshift 1.0.0 (local warehouse)' $$;

-- VARCHAR and CHAR count bytes, in PostgreSQL they count characters. The cast to a column's length
-- is replaced by one that counts bytes. An explicit cast truncates, an assignment fails.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_Character_types.html
CREATE OR REPLACE FUNCTION pg_redshift.cut(value text, bytes integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    value := left(value, bytes);
    WHILE octet_length(value) > bytes LOOP
        value := left(value, -greatest(1, (octet_length(value) - bytes) / 4));
    END LOOP;
    RETURN value;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.too_long(value text, bytes integer, type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
BEGIN
    -- Blanks at the end do not count.
    IF octet_length(rtrim(value, ' ')) <= bytes THEN
        RETURN pg_redshift.cut(value, bytes);
    END IF;
    RAISE EXCEPTION USING ERRCODE = '22001', MESSAGE = format('value too long for type %s(%s)', type, bytes);
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.sized(varchar, integer, boolean) RETURNS varchar LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $2 < 5 OR octet_length($1) <= $2 - 4 THEN $1
    WHEN $3 THEN pg_redshift.cut($1, $2 - 4)
    ELSE pg_redshift.too_long($1, $2 - 4, 'character varying') END $$;
CREATE OR REPLACE FUNCTION pg_redshift.sized(bpchar, integer, boolean) RETURNS bpchar LANGUAGE sql IMMUTABLE AS $$
SELECT pg_catalog.bpchar(CASE WHEN $2 < 5 OR octet_length($1) <= $2 - 4 THEN $1
    WHEN $3 THEN pg_redshift.cut($1::text, $2 - 4)::bpchar
    ELSE pg_redshift.too_long($1::text, $2 - 4, 'character')::bpchar END, $2, $3) $$;
UPDATE pg_catalog.pg_cast SET castfunc = 'pg_redshift.sized(varchar, integer, boolean)'::regprocedure
WHERE castsource = 'varchar'::regtype AND casttarget = 'varchar'::regtype;
UPDATE pg_catalog.pg_cast SET castfunc = 'pg_redshift.sized(bpchar, integer, boolean)'::regprocedure
WHERE castsource = 'bpchar'::regtype AND casttarget = 'bpchar'::regtype;

-- CREATE TABLE AS takes lengths from the plan of the query, where `sized` is inlined and its length is lost. A table without
-- rows, `pg_lengths`, takes them from the query itself.
CREATE OR REPLACE FUNCTION pg_redshift.copy_lengths(target regclass, source regclass) RETURNS void LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog SET allow_system_table_mods = on AS $$
UPDATE pg_attribute t SET atttypmod = s.atttypmod FROM pg_attribute s JOIN pg_class c ON c.oid = target
WHERE t.attrelid = target AND s.attrelid = source AND s.attnum = t.attnum AND s.atttypid = t.atttypid
  AND t.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND t.atttypmod = -1 AND pg_has_role(session_user, c.relowner, 'USAGE') $$;
CREATE OR REPLACE FUNCTION pg_redshift.set_lengths(relation text, twin text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = relation::regclass AND attnum > 0 AND atttypmod = -1
                   AND atttypid IN ('varchar'::regtype, 'bpchar'::regtype)) THEN
        EXECUTE twin;
        PERFORM pg_redshift.copy_lengths(relation::regclass, 'pg_temp.pg_lengths'::regclass);
        DROP TABLE pg_temp.pg_lengths;
    END IF;
END $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/r_CURRENT_USER_ID.html
-- "The unique ID of the Amazon Redshift cluster" (r_CURRENT_NAMESPACE): one for each folder of data.
CREATE OR REPLACE FUNCTION pg_redshift.current_namespace() RETURNS varchar LANGUAGE sql STABLE SECURITY DEFINER AS
$$ SELECT md5(system_identifier::text)::uuid::varchar FROM pg_control_system() $$;
CREATE OR REPLACE FUNCTION pg_redshift.current_user_id() RETURNS integer LANGUAGE sql STABLE AS
$$ SELECT oid::integer FROM pg_roles WHERE rolname = current_user $$;
-- https://docs.aws.amazon.com/redshift/latest/dg/r_USER_IS_MEMBER_OF.html
CREATE OR REPLACE FUNCTION pg_catalog.user_is_member_of(text, text) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT pg_has_role($1, $2, 'MEMBER') $$;
CREATE OR REPLACE FUNCTION pg_catalog.role_is_member_of(text, text) RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT pg_has_role($1, $2, 'MEMBER') $$;

-- Settings that PostgreSQL does not have are stored as pg_redshift.<name>.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_CURRENT_SETTING.html
CREATE OR REPLACE FUNCTION pg_redshift.set_config(name text, value text, local boolean) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN pg_catalog.set_config(name, value, local);
EXCEPTION WHEN undefined_object THEN
    RETURN pg_catalog.set_config('pg_redshift.' || lower(name), value, local);
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.current_setting(name text, missing_ok boolean) RETURNS text LANGUAGE sql STABLE AS $$
SELECT coalesce(nullif(pg_catalog.current_setting('pg_redshift.' || lower(name), true), ''),
    CASE WHEN lower(name) = 'query_group' THEN 'default' ELSE pg_catalog.current_setting(name, missing_ok) END) $$;
CREATE OR REPLACE FUNCTION pg_redshift.current_setting(name text) RETURNS text LANGUAGE sql STABLE AS $$
SELECT coalesce(nullif(pg_catalog.current_setting('pg_redshift.' || lower(name), true), ''),
    CASE WHEN lower(name) = 'query_group' THEN 'default' ELSE pg_catalog.current_setting(name) END) $$;
