-- Implicit conversions.
-- https://docs.aws.amazon.com/redshift/latest/dg/c_Supported_data_types.html#r_Type_conversion

-- Numbers and moments are converted to strings where a string is expected: substring(20240131, 1, 4), a_timestamp like '2024%'.
DO $$
DECLARE
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'date', 'time', 'timetz',
                                'timestamp', 'timestamptz', 'interval'] LOOP
        IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = kind::regtype AND casttarget = 'text'::regtype) THEN
            EXECUTE format('CREATE CAST (%s AS text) WITH INOUT AS IMPLICIT', kind);
        END IF;
    END LOOP;
END $$;

-- Without this, PostgreSQL's own `anything || text` would make the operator ambiguous.
DELETE FROM pg_catalog.pg_operator WHERE oprname = '||' AND 'anynonarray'::regtype IN (oprleft, oprright);
DELETE FROM pg_catalog.pg_proc WHERE proname IN ('quote_literal', 'quote_nullable') AND proargtypes[0] = 'anyelement'::regtype;

CREATE OR REPLACE FUNCTION pg_redshift.comparison(sign text, name text, one text, other text, body text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.%s(%s, %s) RETURNS boolean LANGUAGE sql IMMUTABLE AS %L',
                   name, one, other, 'SELECT ' || format(body, sign));
    IF to_regoperator(format('pg_catalog.%s(%s,%s)', sign, one, other)) IS NULL THEN
        EXECUTE format('CREATE OPERATOR pg_catalog.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = pg_redshift.%s)',
                       sign, one, other, name);
    END IF;
END $$;

-- "If you compare DECIMAL values with character strings, Amazon Redshift attempts to convert the character string to a
-- DECIMAL value. When comparing all other numeric values with character strings, the numeric values are converted to
-- character strings." A boolean compares with 0 and 1. PostgreSQL inlines them, so that joins still hash.
DO $$
DECLARE
    sign text;
    name text;
    kind text;
    other text;
    common text;
BEGIN
    FOR sign, name IN VALUES ('=', 'eq'), ('<>', 'ne'), ('<', 'lt'), ('<=', 'le'), ('>', 'gt'), ('>=', 'ge') LOOP
        FOREACH kind IN ARRAY ARRAY['int2', 'int4', 'int8', 'float4', 'float8', 'numeric'] LOOP
            common := CASE kind WHEN 'numeric' THEN 'numeric' ELSE 'text' END;
            PERFORM pg_redshift.comparison(sign, name, 'text', kind, format('$1::%s %%s $2::%s', common, common));
            PERFORM pg_redshift.comparison(sign, name, kind, 'text', format('$1::%s %%s $2::%s', common, common));
        END LOOP;
        -- Two kinds of numbers compare as in PostgreSQL, but with exact operators, so that the ones above are not ambiguous.
        FOR kind, other, common IN VALUES ('int2', 'float4', 'float8'), ('int4', 'float4', 'float8'),
                ('int8', 'float4', 'float8'), ('int2', 'float8', 'float8'), ('int4', 'float8', 'float8'),
                ('int8', 'float8', 'float8'), ('int2', 'numeric', 'numeric'), ('int4', 'numeric', 'numeric'),
                ('int8', 'numeric', 'numeric'), ('float4', 'numeric', 'float8'), ('float8', 'numeric', 'float8') LOOP
            PERFORM pg_redshift.comparison(sign, name, kind, other, format('$1::%s %%s $2::%s', common, common));
            PERFORM pg_redshift.comparison(sign, name, other, kind, format('$1::%s %%s $2::%s', common, common));
        END LOOP;
        FOREACH kind IN ARRAY CASE WHEN sign IN ('=', '<>') THEN ARRAY['int2', 'int4', 'int8'] ELSE '{}' END LOOP
            PERFORM pg_redshift.comparison(sign, name, 'boolean', kind, '$1 %s ($2 <> 0)');
            PERFORM pg_redshift.comparison(sign, name, kind, 'boolean', '($1 <> 0) %s $2');
        END LOOP;
    END LOOP;
END $$;

-- Strings are joined by + too; 'a' + 1 stays an error.
CREATE OR REPLACE FUNCTION pg_redshift.joined(varchar, varchar) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT $1::text || $2::text $$;
DO $$
BEGIN
    IF to_regoperator('pg_catalog.+(varchar,varchar)') IS NULL THEN
        CREATE OPERATOR pg_catalog.+ (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = pg_redshift.joined);
    END IF;
END $$;

-- Integers can be stored in boolean columns.
CREATE OR REPLACE FUNCTION pg_redshift.truth(bigint) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT $1 <> 0 $$;
CREATE OR REPLACE FUNCTION pg_redshift.truth(smallint) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS $$ SELECT $1 <> 0 $$;
UPDATE pg_catalog.pg_cast SET castcontext = 'a' WHERE castsource = 'int4'::regtype AND casttarget = 'bool'::regtype;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = 'int8'::regtype AND casttarget = 'bool'::regtype) THEN
        CREATE CAST (bigint AS boolean) WITH FUNCTION pg_redshift.truth(bigint) AS ASSIGNMENT;
        CREATE CAST (smallint AS boolean) WITH FUNCTION pg_redshift.truth(smallint) AS ASSIGNMENT;
    END IF;
END $$;

-- A boolean cannot be cast to a string, nor a string to a boolean unless it is a literal. PostgreSQL would cast both.
CREATE OR REPLACE FUNCTION pg_redshift.no_cast(source text, target text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE cannot_coerce USING MESSAGE = format('cannot cast type %s to %s', source, target);
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.no_text(boolean) RETURNS text LANGUAGE plpgsql STRICT AS $$
BEGIN
    PERFORM pg_redshift.no_cast('boolean', 'character varying');
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.no_boolean(text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_redshift.no_cast('character varying', 'boolean');
END $$;
UPDATE pg_catalog.pg_cast SET castfunc = 'pg_redshift.no_text(boolean)'::regprocedure
WHERE castsource = 'bool'::regtype AND casttarget IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype);
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = 'text'::regtype AND casttarget = 'bool'::regtype) THEN
        CREATE CAST (text AS boolean) WITH FUNCTION pg_redshift.no_boolean(text);
        CREATE FUNCTION pg_redshift.no_boolean(varchar) RETURNS boolean LANGUAGE sql AS 'SELECT pg_redshift.no_boolean($1::text)';
        CREATE CAST (varchar AS boolean) WITH FUNCTION pg_redshift.no_boolean(varchar);
        CREATE FUNCTION pg_redshift.no_boolean(bpchar) RETURNS boolean LANGUAGE sql AS 'SELECT pg_redshift.no_boolean($1::text)';
        CREATE CAST (bpchar AS boolean) WITH FUNCTION pg_redshift.no_boolean(bpchar);
    END IF;
END $$;

-- "123-" is a negative number, "a blank or empty string" is 0, and halves are rounded to the nearest even number.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TEXT_TO_NUMERIC_ALT.html
CREATE OR REPLACE FUNCTION pg_redshift.with_sign_at_the_end(value text) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce(nullif(regexp_replace(trim(value), '^(.*)([+-])$', '\2\1'), '')::numeric,
                   CASE WHEN value IS NOT NULL THEN 0 END) $$;
CREATE OR REPLACE FUNCTION pg_catalog.text_to_int_alt(value text) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT trunc(pg_redshift.with_sign_at_the_end(value))::integer $$;
CREATE OR REPLACE FUNCTION pg_catalog.text_to_numeric_alt(value text, digits integer DEFAULT 38, scale integer DEFAULT 0)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    shifted numeric := pg_redshift.with_sign_at_the_end(value) * 10::numeric ^ scale;
    rounded numeric := CASE WHEN abs(shifted - trunc(shifted)) = 0.5 THEN round(shifted / 2) * 2 ELSE round(shifted) END;
BEGIN
    IF abs(rounded) >= 10::numeric ^ digits THEN
        RAISE numeric_value_out_of_range USING MESSAGE = format('numeric field overflow: %s', value);
    END IF;
    RETURN round(rounded / 10::numeric ^ scale, scale);
END $$;
