-- Numbers and aggregates. https://docs.aws.amazon.com/redshift/latest/dg/Math_functions.html

CREATE OR REPLACE FUNCTION pg_catalog.round(double precision, integer) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$ SELECT round($1::numeric, $2)::double precision $$;
CREATE OR REPLACE FUNCTION pg_catalog.trunc(double precision, integer) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$ SELECT trunc($1::numeric, $2)::double precision $$;
CREATE OR REPLACE FUNCTION pg_catalog.dexp(double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT exp($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dlog1(double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT ln($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dlog10(double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT log($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dsqrt(double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT sqrt($1) $$;

-- MEDIAN and PERCENTILE_CONT also run over windows, where PostgreSQL has no ordered-set aggregates.
CREATE OR REPLACE FUNCTION pg_redshift.keep(double precision[], double precision) RETURNS double precision[]
LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN $2 IS NULL THEN $1 ELSE array_append($1, $2) END $$;
CREATE OR REPLACE FUNCTION pg_redshift.middle(double precision[]) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM unnest($1) AS x $$;
CREATE OR REPLACE AGGREGATE pg_catalog.median(double precision) (
    SFUNC = pg_redshift.keep, STYPE = double precision[], FINALFUNC = pg_redshift.middle
);
CREATE OR REPLACE FUNCTION pg_redshift.keep(double precision[], double precision, double precision)
RETURNS double precision[] LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $2 IS NULL THEN $1 WHEN $1 IS NULL THEN ARRAY[$3, $2] ELSE array_append($1, $2) END $$;
CREATE OR REPLACE FUNCTION pg_redshift.continuous(double precision[]) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT percentile_cont($1[1]) WITHIN GROUP (ORDER BY x) FROM unnest($1[2:]) AS x $$;
CREATE OR REPLACE FUNCTION pg_redshift.discrete(double precision[]) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT percentile_disc($1[1]) WITHIN GROUP (ORDER BY x) FROM unnest($1[2:]) AS x $$;
CREATE OR REPLACE AGGREGATE pg_redshift.percentile_cont(double precision, double precision) (
    SFUNC = pg_redshift.keep, STYPE = double precision[], FINALFUNC = pg_redshift.continuous
);
CREATE OR REPLACE AGGREGATE pg_redshift.percentile_disc(double precision, double precision) (
    SFUNC = pg_redshift.keep, STYPE = double precision[], FINALFUNC = pg_redshift.discrete
);

-- FIRST_VALUE and LAST_VALUE that ignore nulls, over any frame.
CREATE OR REPLACE FUNCTION pg_redshift.earlier(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce($1, $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.later(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS
$$ SELECT coalesce($2, $1) $$;
CREATE OR REPLACE AGGREGATE pg_redshift.first_value(anyelement) (SFUNC = pg_redshift.earlier, STYPE = anyelement);
CREATE OR REPLACE AGGREGATE pg_redshift.last_value(anyelement) (SFUNC = pg_redshift.later, STYPE = anyelement);

-- AVG of whole numbers is a whole number, and of a DECIMAL it keeps the scale. Called with the average and with any of
-- the values, for their type. https://docs.aws.amazon.com/redshift/latest/dg/r_AVG.html
CREATE OR REPLACE FUNCTION pg_redshift.average(numeric, integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT trunc($1)::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.average(numeric, smallint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT trunc($1)::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.average(numeric, bigint) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$ SELECT trunc($1) $$;
CREATE OR REPLACE FUNCTION pg_redshift.average(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS
$$ SELECT trunc($1, scale($2)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.average(double precision, double precision) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE OR REPLACE FUNCTION pg_redshift.average(interval, interval) RETURNS interval LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 $$;

-- The n-th value before this row, or of the frame, that is not null: LAG, LEAD and NTH_VALUE that ignore nulls.
-- The state of the first has n places.
CREATE OR REPLACE FUNCTION pg_redshift.keep_last(anyarray, anyelement, integer) RETURNS anyarray LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $2 IS NULL THEN coalesce($1, array_fill($2, ARRAY[$3]))
    WHEN $1 IS NULL THEN array_fill(nullif($2, $2), ARRAY[$3 - 1]) || $2
    ELSE $1[2:] || $2 END $$;
CREATE OR REPLACE FUNCTION pg_redshift.first_of(anyarray, anyelement, integer) RETURNS anyelement LANGUAGE sql IMMUTABLE AS
$$ SELECT $1[1] $$;
CREATE OR REPLACE AGGREGATE pg_redshift.lag(anyelement, integer) (
    SFUNC = pg_redshift.keep_last, STYPE = anyarray, FINALFUNC = pg_redshift.first_of, FINALFUNC_EXTRA
);
CREATE OR REPLACE FUNCTION pg_redshift.keep_first(anyarray, anyelement, integer) RETURNS anyarray LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $2 IS NULL OR array_length($1, 1) >= $3 THEN $1 ELSE array_append($1, $2) END $$;
CREATE OR REPLACE AGGREGATE pg_redshift.kept(anyelement, integer) (SFUNC = pg_redshift.keep_first, STYPE = anyarray);
CREATE OR REPLACE FUNCTION pg_redshift.item(anyarray, integer) RETURNS anyelement LANGUAGE sql IMMUTABLE AS $$ SELECT $1[$2] $$;

-- LISTAGG (DISTINCT …) over a window. The state starts with the delimiter.
CREATE OR REPLACE FUNCTION pg_redshift.list_once(text[], text, text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $2 IS NULL OR $2 = ANY ($1[2:]) THEN $1 ELSE coalesce($1, ARRAY[coalesce($3, '')]) || $2 END $$;
CREATE OR REPLACE FUNCTION pg_redshift.listed(text[]) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT array_to_string($1[2:], $1[1]) $$;
CREATE OR REPLACE AGGREGATE pg_redshift.list_once(text, text) (
    SFUNC = pg_redshift.list_once, STYPE = text[], FINALFUNC = pg_redshift.listed
);
