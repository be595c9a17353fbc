-- JSON in strings, and SUPER. https://docs.aws.amazon.com/redshift/latest/dg/json-functions.html

CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON OBJECT $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json_array(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON ARRAY $$;
CREATE OR REPLACE FUNCTION pg_catalog.can_json_parse(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_parse(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT $1::jsonb $$;
-- Compact, as Redshift writes it; keys in PostgreSQL's order.
CREATE OR REPLACE FUNCTION pg_redshift.json_serialize(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE jsonb_typeof($1)
    WHEN 'object' THEN '{' || coalesce((SELECT string_agg(to_json(key)::text || ':' || pg_redshift.json_serialize(value), ',')
                                        FROM jsonb_each($1)), '') || '}'
    WHEN 'array' THEN '[' || coalesce((SELECT string_agg(pg_redshift.json_serialize(value), ',' ORDER BY place)
                                       FROM jsonb_array_elements($1) WITH ORDINALITY AS e (value, place)), '') || ']'
    ELSE $1::text END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_typeof(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_typeof($1) $$;
-- Volatile, so that it is not called for constants while a query is planned.
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
CREATE OR REPLACE FUNCTION pg_catalog.json_size(jsonb) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT octet_length(pg_redshift.json_serialize($1)) $$;

-- Paths, and arrays as tables: what is not there is null, and no rows.
CREATE OR REPLACE FUNCTION pg_redshift.path(jsonb, VARIADIC text[]) RETURNS pg_catalog.super LANGUAGE sql IMMUTABLE AS
$$ SELECT nullif($1 #> $2, 'null') $$;
CREATE OR REPLACE FUNCTION pg_redshift.text_of(jsonb) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 #>> '{}' $$;
CREATE OR REPLACE FUNCTION pg_redshift.elements(jsonb) RETURNS SETOF jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_array_elements(CASE WHEN jsonb_typeof($1) = 'array' THEN $1 ELSE '[]' END) $$;
