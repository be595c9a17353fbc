-- JSON in strings, and SUPER. https://docs.aws.amazon.com/redshift/latest/dg/json-functions.html

CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON OBJECT $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json_array(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON ARRAY $$;
CREATE OR REPLACE FUNCTION pg_catalog.can_json_parse(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_parse(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT $1::json::jsonb $$;
-- Compact, as Redshift writes it; keys in PostgreSQL's order.
CREATE OR REPLACE FUNCTION pg_redshift.json_serialize(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE jsonb_typeof($1)
    WHEN 'object' THEN '{' || coalesce((SELECT string_agg(to_json(key)::text || ':' || pg_redshift.json_serialize(value), ',')
                                        FROM jsonb_each($1)), '') || '}'
    WHEN 'array' THEN '[' || coalesce((SELECT string_agg(pg_redshift.json_serialize(value), ',' ORDER BY place)
                                       FROM jsonb_array_elements($1) WITH ORDINALITY AS e (value, place)), '') || ']'
    ELSE format('%s', $1) END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_typeof(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) $$;
-- Volatile, so that the planner does not call it for constants.
CREATE OR REPLACE FUNCTION pg_redshift.invalid_json(text, quiet boolean) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF quiet THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'JSON parsing error', HINT = left($1, 200);
END $$;
-- https://docs.aws.amazon.com/redshift/latest/dg/JSON_EXTRACT_PATH_TEXT.html
CREATE OR REPLACE FUNCTION pg_redshift.json_path(text, text[], quiet boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 IS NULL OR $1 = '' THEN
        RETURN NULL;
    ELSIF $1 IS NOT JSON THEN
        RETURN pg_redshift.invalid_json($1, quiet);
    END IF;
    RETURN $1::json #>> $2;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_extract_path_text(text, VARIADIC text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.json_path($1, $2, false) $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_extract_path_text_quiet(text, VARIADIC text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.json_path($1, $2, true) $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_extract_array_element_text(text, integer, quiet boolean DEFAULT false)
RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 IS NOT JSON ARRAY THEN
        RETURN pg_redshift.invalid_json($1, quiet OR $1 IS NULL);
    END IF;
    RETURN $1::json ->> $2;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_array_length(text, quiet boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 IS NOT JSON ARRAY THEN
        RETURN pg_redshift.invalid_json($1, quiet OR $1 IS NULL);
    END IF;
    RETURN pg_catalog.json_array_length($1::json);
END $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/SUPER_array_functions.html
CREATE OR REPLACE FUNCTION pg_redshift.array_of(VARIADIC "any") RETURNS jsonb LANGUAGE internal STABLE AS
'jsonb_build_array';
CREATE OR REPLACE FUNCTION pg_redshift.array_of() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '[]'::jsonb $$;
CREATE OR REPLACE FUNCTION pg_redshift.object_of(VARIADIC "any") RETURNS jsonb LANGUAGE internal STABLE AS
'jsonb_build_object';
CREATE OR REPLACE FUNCTION pg_redshift.object_of() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT '{}'::jsonb $$;
CREATE OR REPLACE FUNCTION pg_catalog.get_array_length(jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN jsonb_typeof($1) = 'array' THEN jsonb_array_length($1) END $$;
CREATE OR REPLACE FUNCTION pg_catalog.array_concat(jsonb, jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 || $2 $$;
CREATE OR REPLACE FUNCTION pg_catalog.subarray(jsonb, integer, integer DEFAULT NULL) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce(jsonb_agg(value ORDER BY place), '[]') FROM jsonb_array_elements($1) WITH ORDINALITY AS e (value, place)
WHERE place > $2 AND ($3 IS NULL OR place <= $2 + $3) $$;
CREATE OR REPLACE FUNCTION pg_redshift.leaves(jsonb) RETURNS SETOF jsonb LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    item jsonb;
BEGIN
    FOR item IN SELECT value FROM jsonb_array_elements($1) LOOP
        IF jsonb_typeof(item) = 'array' THEN
            RETURN QUERY SELECT pg_redshift.leaves(item);
        ELSE
            RETURN NEXT item;
        END IF;
    END LOOP;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.array_flatten(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(jsonb_agg(leaf), '[]') FROM pg_redshift.leaves($1) AS leaf $$;
CREATE OR REPLACE FUNCTION pg_catalog.split_to_array(text, text DEFAULT ',') RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT to_jsonb(string_to_array($1, $2)) $$;
-- Each returns false for null.
DO $$
DECLARE
    name text;
    body text;
BEGIN
    FOR name, body IN VALUES ('is_array', 'jsonb_typeof($1) = ''array'''), ('is_object', 'jsonb_typeof($1) = ''object'''),
            ('is_scalar', 'jsonb_typeof($1) NOT IN (''object'', ''array'', ''null'')'), ('is_varchar', 'jsonb_typeof($1) = ''string'''),
            ('is_char', 'jsonb_typeof($1) = ''string'' AND $1 #>> ''{}'' ~ ''^[\x01-\x7f]*$'''),
            ('is_boolean', 'jsonb_typeof($1) = ''boolean'''),
            ('is_smallint', 'jsonb_typeof($1) = ''number'' AND pg_input_is_valid($1 #>> ''{}'', ''int2'')'),
            ('is_integer', 'jsonb_typeof($1) = ''number'' AND pg_input_is_valid($1 #>> ''{}'', ''int4'')'),
            ('is_bigint', 'jsonb_typeof($1) = ''number'' AND pg_input_is_valid($1 #>> ''{}'', ''int8'')') LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_catalog.%s(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS %L', name,
                       format('SELECT coalesce(%s, false)', body));
    END LOOP;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.decimal_precision(jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN jsonb_typeof($1) = 'number' THEN length(ltrim(translate($1 #>> '{}', '-.', ''), '0')) END $$;
CREATE OR REPLACE FUNCTION pg_catalog.decimal_scale(jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN jsonb_typeof($1) = 'number' THEN scale(($1 #>> '{}')::numeric) END $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_serialize_to_varbyte(jsonb) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT convert_to(pg_redshift.json_serialize($1), 'UTF8') $$;
CREATE OR REPLACE FUNCTION pg_redshift.super_of(anyelement) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT to_jsonb($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_size(jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT octet_length(pg_redshift.json_serialize($1)) $$;

-- Paths, and arrays as tables: a missing path is null, and returns no rows.
CREATE OR REPLACE FUNCTION pg_redshift.path(jsonb, VARIADIC text[]) RETURNS pg_catalog.super LANGUAGE sql IMMUTABLE AS
$$ SELECT nullif($1 #> $2, 'null') $$;
-- Objects and arrays do not cast to strings; use JSON_SERIALIZE. https://docs.aws.amazon.com/redshift/latest/dg/limitations-super.html
CREATE OR REPLACE FUNCTION pg_redshift.text_of(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN jsonb_typeof($1) NOT IN ('object', 'array') THEN $1 #>> '{}' END $$;
CREATE OR REPLACE FUNCTION pg_redshift.elements(jsonb) RETURNS SETOF jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_array_elements(CASE WHEN jsonb_typeof($1) = 'array' THEN $1 ELSE '[]' END) $$;
CREATE OR REPLACE FUNCTION pg_redshift.numbered(jsonb) RETURNS TABLE (item jsonb, place bigint) LANGUAGE sql IMMUTABLE AS
$$ SELECT e.item, e.place - 1 FROM pg_redshift.elements($1) WITH ORDINALITY AS e (item, place) $$;
CREATE OR REPLACE FUNCTION pg_redshift.attributes(jsonb) RETURNS TABLE (item jsonb, place text) LANGUAGE sql IMMUTABLE AS
$$ SELECT value, key FROM jsonb_each(CASE WHEN jsonb_typeof($1) = 'object' THEN $1 ELSE '{}' END) $$;

-- Casts from SUPER: null, not an error, if the value is of another type ("lax semantics").
-- https://docs.aws.amazon.com/redshift/latest/dg/query-super.html
CREATE OR REPLACE FUNCTION pg_redshift.lax(value jsonb, type text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN jsonb_typeof(value) = 'number' AND type LIKE 'int_' THEN round((value #>> '{}')::numeric)::text
    WHEN type = 'text' OR pg_input_is_valid(pg_redshift.text_of(value), type) THEN pg_redshift.text_of(value) END $$;
DO $$
DECLARE
    kind text;
    sign text;
    name text;
    body text;
    made regprocedure;
BEGIN
    FOREACH kind IN ARRAY ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar', 'date',
                                'timestamp', 'timestamptz', 'time'] LOOP
        body := CASE WHEN kind = 'bool' THEN '(jsonb_typeof($1) = ''boolean'' AND $1 = ''true'')
                                              OR nullif(jsonb_typeof($1) <> ''boolean'', true)'
                     WHEN kind IN ('text', 'varchar', 'bpchar') THEN format('pg_redshift.text_of($1)::%s', kind)
                     -- Uses the type's input function: a cast from text would call this cast again.
                     ELSE format('pg_redshift.lax($1, %L)::%s', kind, kind) END;
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.super_to_%1$s(jsonb) RETURNS %1$s LANGUAGE sql IMMUTABLE AS %2$L',
                       kind, 'SELECT ' || body);
        made := format('pg_redshift.super_to_%s(jsonb)', kind)::regprocedure;
        IF EXISTS (SELECT FROM pg_cast WHERE castsource = 'jsonb'::regtype AND casttarget = kind::regtype) THEN
            UPDATE pg_cast SET castfunc = made WHERE castsource = 'jsonb'::regtype AND casttarget = kind::regtype;
        ELSE
            EXECUTE format('CREATE CAST (jsonb AS %s) WITH FUNCTION %s AS %s', kind, made,
                           CASE kind WHEN 'text' THEN 'IMPLICIT' ELSE 'ASSIGNMENT' END);
        END IF;
    END LOOP;
    -- Assignment casts to SUPER.
    FOREACH kind IN ARRAY ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar'] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.to_super(%s) RETURNS jsonb LANGUAGE sql IMMUTABLE AS %L', kind,
                       'SELECT to_jsonb($1)');
        IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = kind::regtype AND casttarget = 'jsonb'::regtype) THEN
            EXECUTE format('CREATE CAST (%1$s AS jsonb) WITH FUNCTION pg_redshift.to_super(%1$s) AS ASSIGNMENT', kind);
        END IF;
    END LOOP;
    -- "Dynamic typing": in comparisons and arithmetic, a SUPER gets the type of the other operand, or is null.
    DELETE FROM pg_operator WHERE oprname = '-' AND oprleft = 'jsonb'::regtype AND oprright = 'int4'::regtype
        AND oprcode = 'jsonb_delete(jsonb,integer)'::regprocedure;
    FOREACH kind IN ARRAY ARRAY['int4', 'int8', 'float8', 'numeric', 'text', 'bool', 'date', 'timestamp'] LOOP
        FOR sign, name IN VALUES ('=', 'eq'), ('<>', 'ne'), ('<', 'lt'), ('<=', 'le'), ('>', 'gt'), ('>=', 'ge') LOOP
            body := CASE WHEN kind LIKE 'int_' THEN 'numeric' ELSE kind END;
            PERFORM pg_redshift.comparison(sign, name, 'jsonb', kind, format('$1::%s %%s $2', body));
            PERFORM pg_redshift.comparison(sign, name, kind, 'jsonb', format('$1 %%s $2::%s', body));
        END LOOP;
        FOR sign, name IN VALUES ('+', 'plus'), ('-', 'minus'), ('*', 'times'), ('/', 'divided'), ('%', 'modulo') LOOP
            CONTINUE WHEN kind IN ('text', 'bool', 'date', 'timestamp') OR (kind = 'float8' AND sign = '%');
            body := format('SELECT to_jsonb($1::numeric %s $2::numeric)', sign);
            EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.%s(jsonb, %s) RETURNS jsonb LANGUAGE sql IMMUTABLE AS %L',
                           name, kind, body);
            EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.%s(%s, jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS %L',
                           name, kind, body);
            IF to_regoperator(format('pg_catalog.%s(jsonb,%s)', sign, kind)) IS NULL THEN
                EXECUTE format('CREATE OPERATOR pg_catalog.%s (LEFTARG = jsonb, RIGHTARG = %s, FUNCTION = pg_redshift.%s)',
                               sign, kind, name);
                EXECUTE format('CREATE OPERATOR pg_catalog.%s (LEFTARG = %s, RIGHTARG = jsonb, FUNCTION = pg_redshift.%s)',
                               sign, kind, name);
            END IF;
        END LOOP;
    END LOOP;
END $$;
