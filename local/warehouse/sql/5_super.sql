-- JSON in strings, and SUPER. https://docs.aws.amazon.com/redshift/latest/dg/json-functions.html

CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON OBJECT $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json_array(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON ARRAY $$;
CREATE OR REPLACE FUNCTION pg_catalog.can_json_parse(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_parse(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT $1::jsonb $$;
-- Compact, as Redshift writes it; keys in PostgreSQL's order.
CREATE OR REPLACE FUNCTION pg_catalog.json_serialize(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE jsonb_typeof($1)
    WHEN 'object' THEN '{' || coalesce((SELECT string_agg(to_json(key)::text || ':' || pg_catalog.json_serialize(value), ',')
                                        FROM jsonb_each($1)), '') || '}'
    WHEN 'array' THEN '[' || coalesce((SELECT string_agg(pg_catalog.json_serialize(value), ',' ORDER BY place)
                                       FROM jsonb_array_elements($1) WITH ORDINALITY AS e (value, place)), '') || ']'
    ELSE $1::text END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_typeof(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) $$;
CREATE OR REPLACE FUNCTION pg_redshift.invalid_json(text, quiet boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF quiet THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'JSON parsing error', HINT = left($1, 200);
END $$;
-- https://docs.aws.amazon.com/redshift/latest/dg/JSON_EXTRACT_PATH_TEXT.html
CREATE OR REPLACE FUNCTION pg_redshift.json_path(text, text[], quiet boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $1 IS NULL THEN NULL WHEN $1 = '' OR $1 IS NOT JSON THEN pg_redshift.invalid_json($1, quiet OR $1 = '')
    ELSE $1::json #>> $2 END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_extract_path_text(text, VARIADIC text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.json_path($1, $2, false) $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_extract_path_text_quiet(text, VARIADIC text[]) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.json_path($1, $2, true) $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_extract_array_element_text(text, integer, quiet boolean DEFAULT false)
RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $1 IS NULL THEN NULL WHEN $1 IS NOT JSON ARRAY THEN pg_redshift.invalid_json($1, quiet)
    ELSE $1::json ->> $2 END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_array_length(text, quiet boolean DEFAULT false) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $1 IS NULL THEN NULL
    WHEN $1 IS NOT JSON ARRAY THEN pg_redshift.invalid_json($1, quiet)::integer
    ELSE pg_catalog.json_array_length($1::json) END $$;

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
CREATE OR REPLACE FUNCTION pg_catalog.array_flatten(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce(jsonb_agg(inner_value ORDER BY place, inner_place), '[]')
FROM jsonb_array_elements($1) WITH ORDINALITY AS o (value, place),
     jsonb_array_elements(CASE WHEN jsonb_typeof(value) = 'array' THEN value ELSE jsonb_build_array(value) END)
         WITH ORDINALITY AS i (inner_value, inner_place) $$;
CREATE OR REPLACE FUNCTION pg_catalog.split_to_array(text, text DEFAULT ',') RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT to_jsonb(string_to_array($1, $2)) $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_array(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) = 'array' $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_object(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) = 'object' $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_scalar(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) NOT IN ('object', 'array') $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_varchar(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) = 'string' $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_boolean(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) = 'boolean' $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_integer(jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) = 'number' AND $1::text !~ '[.eE]' $$;
CREATE OR REPLACE FUNCTION pg_redshift.super_of(anyelement) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT to_jsonb($1) $$;
