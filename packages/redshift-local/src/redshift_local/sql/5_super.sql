-- JSON in strings, and SUPER. https://docs.aws.amazon.com/redshift/latest/dg/json-functions.html

-- Values compare regardless of the order of keys. unverified: the manual does not say how objects compare.
CREATE OR REPLACE FUNCTION pg_redshift.compare(json, json) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT jsonb_cmp($1::jsonb, $2::jsonb) $$;
CREATE OR REPLACE FUNCTION pg_redshift.hash(json) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_hash($1::jsonb) $$;
DO $$
DECLARE
    sign text;
    name text;
BEGIN
    FOR sign, name IN VALUES ('=', 'eq'), ('<>', 'ne'), ('<', 'lt'), ('<=', 'le'), ('>', 'gt'), ('>=', 'ge') LOOP
        PERFORM pg_redshift.comparison(sign, name, 'json', 'json', '$1::jsonb %s $2::jsonb');
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_opclass WHERE opcname = 'super_btree') THEN
        ALTER OPERATOR pg_catalog.= (json, json) SET (COMMUTATOR = OPERATOR(pg_catalog.=), HASHES, MERGES, RESTRICT = eqsel, JOIN = eqjoinsel);
        CREATE OPERATOR CLASS pg_redshift.super_btree DEFAULT FOR TYPE json USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =,
            OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 pg_redshift.compare(json, json);
        CREATE OPERATOR CLASS pg_redshift.super_hash DEFAULT FOR TYPE json USING hash AS OPERATOR 1 =, FUNCTION 1 pg_redshift.hash(json);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON OBJECT $$;
CREATE OR REPLACE FUNCTION pg_catalog.is_valid_json_array(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON ARRAY $$;
CREATE OR REPLACE FUNCTION pg_catalog.can_json_parse(text) RETURNS boolean LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 IS JSON $$;
-- A cast of a string to SUPER makes a JSON string of it.
CREATE OR REPLACE FUNCTION pg_redshift.parsed(text) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT json_in(textout($1)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.source(json) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT textin(json_out($1)) $$;
-- Compact, as Redshift writes it. json_strip_nulls writes it like that, and is a hundred times faster than SQL.
CREATE OR REPLACE FUNCTION pg_redshift.json_serialize(json) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN position('null' IN pg_redshift.source($1)) = 0 THEN pg_redshift.source(json_strip_nulls($1))
    ELSE CASE json_typeof($1)
    WHEN 'object' THEN '{' || coalesce((SELECT string_agg(pg_redshift.source(to_json(key)) || ':' || pg_redshift.json_serialize(value), ','
                                                          ORDER BY place)
                                        FROM json_each($1) WITH ORDINALITY AS e (key, value, place)), '') || '}'
    WHEN 'array' THEN '[' || coalesce((SELECT string_agg(pg_redshift.json_serialize(value), ',' ORDER BY place)
                                       FROM json_array_elements($1) WITH ORDINALITY AS e (value, place)), '') || ']'
    WHEN 'string' THEN pg_redshift.source(to_json($1 #>> '{}'))
    ELSE btrim(pg_redshift.source($1), E' \t\r\n') END END $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_parse(text) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.parsed($1) $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_typeof(json) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT json_typeof($1) $$;
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
    RETURN pg_redshift.parsed($1) #>> $2;
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
    RETURN pg_redshift.parsed($1) ->> $2;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.json_array_length(text, quiet boolean DEFAULT false) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 IS NOT JSON ARRAY THEN
        RETURN pg_redshift.invalid_json($1, quiet OR $1 IS NULL);
    END IF;
    RETURN pg_catalog.json_array_length(pg_redshift.parsed($1));
END $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/SUPER_array_functions.html
CREATE OR REPLACE FUNCTION pg_redshift.array_of(VARIADIC "any") RETURNS json LANGUAGE internal STABLE AS
'json_build_array';
CREATE OR REPLACE FUNCTION pg_redshift.array_of() RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '[]'::json $$;
CREATE OR REPLACE FUNCTION pg_redshift.object_of(VARIADIC "any") RETURNS json LANGUAGE internal STABLE AS
'json_build_object';
CREATE OR REPLACE FUNCTION pg_redshift.object_of() RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '{}'::json $$;
CREATE OR REPLACE FUNCTION pg_catalog.get_array_length(json) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN json_typeof($1) = 'array' THEN json_array_length($1) END $$;
-- Unverified: like GET_ARRAY_LENGTH, ARRAY_CONCAT returns null for a value that is not an array.
CREATE OR REPLACE FUNCTION pg_catalog.array_concat(json, json) RETURNS json LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN json_typeof($1) = 'array' AND json_typeof($2) = 'array' THEN (
    SELECT coalesce(json_agg(value ORDER BY part, place), '[]') FROM (
        SELECT 1 AS part, e.* FROM json_array_elements($1) WITH ORDINALITY AS e (value, place)
        UNION ALL SELECT 2, e.* FROM json_array_elements($2) WITH ORDINALITY AS e (value, place)) AS items) END $$;
CREATE OR REPLACE FUNCTION pg_catalog.subarray(json, integer, integer DEFAULT NULL) RETURNS json
LANGUAGE sql IMMUTABLE AS $$
SELECT coalesce(json_agg(value ORDER BY place), '[]') FROM json_array_elements($1) WITH ORDINALITY AS e (value, place)
WHERE place > $2 AND ($3 IS NULL OR place <= $2 + $3) $$;
CREATE OR REPLACE FUNCTION pg_redshift.leaves(json) RETURNS SETOF json LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    item json;
BEGIN
    FOR item IN SELECT value FROM json_array_elements($1) LOOP
        IF json_typeof(item) = 'array' THEN
            RETURN QUERY SELECT pg_redshift.leaves(item);
        ELSE
            RETURN NEXT item;
        END IF;
    END LOOP;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.array_flatten(json) RETURNS json LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(json_agg(leaf), '[]') FROM pg_redshift.leaves($1) AS leaf $$;
CREATE OR REPLACE FUNCTION pg_catalog.split_to_array(text, text DEFAULT ',') RETURNS json LANGUAGE sql IMMUTABLE AS
$$ SELECT to_json(string_to_array($1, $2)) $$;
-- json keeps the text of a number, such as 1e2.
CREATE OR REPLACE FUNCTION pg_redshift.number(json) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN json_typeof($1) = 'number' THEN ($1 #>> '{}')::numeric END $$;
-- Each returns false for null.
DO $$
DECLARE
    name text;
    body text;
BEGIN
    FOR name, body IN VALUES ('is_array', 'json_typeof($1) = ''array'''), ('is_object', 'json_typeof($1) = ''object'''),
            ('is_scalar', 'json_typeof($1) NOT IN (''object'', ''array'', ''null'')'), ('is_varchar', 'json_typeof($1) = ''string'''),
            ('is_char', 'json_typeof($1) = ''string'' AND $1 #>> ''{}'' ~ ''^[\x01-\x7f]*$'''),
            ('is_boolean', 'json_typeof($1) = ''boolean'''),
            ('is_smallint', 'pg_input_is_valid(pg_redshift.number($1)::text, ''int2'')'),
            ('is_integer', 'pg_input_is_valid(pg_redshift.number($1)::text, ''int4'')'),
            ('is_bigint', 'pg_input_is_valid(pg_redshift.number($1)::text, ''int8'')') LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_catalog.%s(json) RETURNS boolean LANGUAGE sql IMMUTABLE AS %L', name,
                       format('SELECT coalesce(%s, false)', body));
    END LOOP;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.decimal_precision(json) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT length(ltrim(translate(pg_redshift.number($1)::text, '-.', ''), '0')) $$;
CREATE OR REPLACE FUNCTION pg_catalog.decimal_scale(json) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT scale(pg_redshift.number($1)) $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_serialize_to_varbyte(json) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT convert_to(pg_redshift.json_serialize($1), 'UTF8') $$;
CREATE OR REPLACE FUNCTION pg_redshift.super_of(anyelement) RETURNS json LANGUAGE sql IMMUTABLE AS
$$ SELECT to_json($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.json_size(json) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT octet_length(pg_redshift.json_serialize($1)) $$;

-- Paths, and arrays as tables: a missing path is null, and returns no rows.
CREATE OR REPLACE FUNCTION pg_redshift.path(json, VARIADIC text[]) RETURNS pg_catalog.super LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.parsed(nullif(pg_redshift.source($1 #> $2), 'null')) $$;
-- Objects and arrays do not cast to strings; use JSON_SERIALIZE. https://docs.aws.amazon.com/redshift/latest/dg/limitations-super.html
CREATE OR REPLACE FUNCTION pg_redshift.text_of(json) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN json_typeof($1) NOT IN ('object', 'array') THEN $1 #>> '{}' END $$;
CREATE OR REPLACE FUNCTION pg_redshift.elements(json) RETURNS SETOF json LANGUAGE sql IMMUTABLE AS
$$ SELECT json_array_elements(CASE WHEN json_typeof($1) = 'array' THEN $1 ELSE '[]' END) $$;
CREATE OR REPLACE FUNCTION pg_redshift.numbered(json) RETURNS TABLE (item json, place bigint) LANGUAGE sql IMMUTABLE AS
$$ SELECT e.item, e.place - 1 FROM pg_redshift.elements($1) WITH ORDINALITY AS e (item, place) $$;
CREATE OR REPLACE FUNCTION pg_redshift.object_or_empty(json) RETURNS json LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN json_typeof($1) = 'object' THEN $1 ELSE '{}' END $$;
CREATE OR REPLACE FUNCTION pg_redshift.attributes(json) RETURNS TABLE (item json, place text) LANGUAGE sql IMMUTABLE AS
$$ SELECT value, key FROM json_each(pg_redshift.object_or_empty($1)) $$;

-- Casts from SUPER: null, not an error, if the value is of another type ("lax semantics").
-- https://docs.aws.amazon.com/redshift/latest/dg/query-super.html
CREATE OR REPLACE FUNCTION pg_redshift.lax(value json, type text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN json_typeof(value) = 'number' AND type LIKE 'int_' THEN round((value #>> '{}')::numeric)::text
    WHEN type = 'text' OR pg_input_is_valid(pg_redshift.text_of(value), type) THEN pg_redshift.text_of(value) END $$;
DO $$
DECLARE
    kind text;
    sign text;
    name text;
    body text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar', 'date',
                                'timestamp', 'timestamptz', 'time'] LOOP
        body := CASE WHEN kind = 'bool' THEN '(json_typeof($1) = ''boolean'' AND $1 #>> ''{}'' = ''true'')
                                              OR nullif(json_typeof($1) <> ''boolean'', true)'
                     WHEN kind IN ('text', 'varchar', 'bpchar') THEN format('pg_redshift.text_of($1)::%s', kind)
                     -- Uses the type's input function: a cast from text would call this cast again.
                     ELSE format('pg_redshift.lax($1, %L)::%s', kind, kind) END;
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.super_to_%1$s(json) RETURNS %1$s LANGUAGE sql IMMUTABLE AS %2$L',
                       kind, 'SELECT ' || body);
        IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = 'json'::regtype AND casttarget = kind::regtype) THEN
            EXECUTE format('CREATE CAST (json AS %s) WITH FUNCTION pg_redshift.super_to_%s(json) AS %s', kind, kind,
                           CASE kind WHEN 'text' THEN 'IMPLICIT' ELSE 'ASSIGNMENT' END);
        END IF;
    END LOOP;
    -- Assignment casts to SUPER.
    FOREACH kind IN ARRAY ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'bool', 'text', 'varchar', 'bpchar'] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.to_super(%s) RETURNS json LANGUAGE sql IMMUTABLE AS %L', kind,
                       'SELECT to_json($1)');
        IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = kind::regtype AND casttarget = 'json'::regtype) THEN
            EXECUTE format('CREATE CAST (%1$s AS json) WITH FUNCTION pg_redshift.to_super(%1$s) AS ASSIGNMENT', kind);
        END IF;
    END LOOP;
    -- "Dynamic typing": in comparisons and arithmetic, a SUPER gets the type of the other operand, or is null.
    FOREACH kind IN ARRAY ARRAY['int4', 'int8', 'float8', 'numeric', 'text', 'bool', 'date', 'timestamp'] LOOP
        FOR sign, name IN VALUES ('=', 'eq'), ('<>', 'ne'), ('<', 'lt'), ('<=', 'le'), ('>', 'gt'), ('>=', 'ge') LOOP
            body := CASE WHEN kind LIKE 'int_' THEN 'numeric' ELSE kind END;
            PERFORM pg_redshift.comparison(sign, name, 'json', kind, format('$1::%s %%s $2', body));
            PERFORM pg_redshift.comparison(sign, name, kind, 'json', format('$1 %%s $2::%s', body));
        END LOOP;
        FOR sign, name IN VALUES ('+', 'plus'), ('-', 'minus'), ('*', 'times'), ('/', 'divided'), ('%', 'modulo') LOOP
            CONTINUE WHEN kind IN ('text', 'bool', 'date', 'timestamp') OR (kind = 'float8' AND sign = '%');
            body := format('SELECT to_json($1::numeric %s $2::numeric)', sign);
            EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.%s(json, %s) RETURNS json LANGUAGE sql IMMUTABLE AS %L',
                           name, kind, body);
            EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.%s(%s, json) RETURNS json LANGUAGE sql IMMUTABLE AS %L',
                           name, kind, body);
            IF to_regoperator(format('pg_catalog.%s(json,%s)', sign, kind)) IS NULL THEN
                EXECUTE format('CREATE OPERATOR pg_catalog.%s (LEFTARG = json, RIGHTARG = %s, FUNCTION = pg_redshift.%s)',
                               sign, kind, name);
                EXECUTE format('CREATE OPERATOR pg_catalog.%s (LEFTARG = %s, RIGHTARG = json, FUNCTION = pg_redshift.%s)',
                               sign, kind, name);
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- SUPER and VARCHAR in one column of a set operation become SUPER; all other types are PostgreSQL's choice.
CREATE OR REPLACE FUNCTION pg_redshift.of_both(json, text) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE OR REPLACE FUNCTION pg_redshift.of_both(text, json) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT to_json($1) $$;
CREATE OR REPLACE FUNCTION pg_redshift.of_both(json, json) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE OR REPLACE FUNCTION pg_redshift.of_both(anycompatible, anycompatible) RETURNS anycompatible LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 $$;
-- Whether a query fails because a set operation needs that.
CREATE OR REPLACE FUNCTION pg_redshift.mixes_super(query text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'PREPARE pg_redshift_check AS ' || query;
    DEALLOCATE pg_redshift_check;
    RETURN false;
EXCEPTION
    WHEN datatype_mismatch THEN RETURN SQLERRM ~ '^(UNION|INTERSECT|EXCEPT) types .*\m(json|super)\M';
    WHEN invalid_text_representation THEN RETURN SQLERRM = 'invalid input syntax for type json'; -- a string beside a SUPER
    WHEN OTHERS THEN RETURN false;
END $$;
