-- Date and time functions. https://docs.aws.amazon.com/redshift/latest/dg/Date_functions_header.html
-- Words for date parts: https://docs.aws.amazon.com/redshift/latest/dg/r_Dateparts_for_datetime_functions.html

CREATE OR REPLACE FUNCTION pg_catalog.getdate() RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT date_trunc('second', statement_timestamp() AT TIME ZONE 'UTC') $$;
CREATE OR REPLACE FUNCTION pg_catalog.sysdate() RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT transaction_timestamp() AT TIME ZONE 'UTC' $$;

CREATE OR REPLACE FUNCTION pg_redshift.no_part(word text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('timestamp units "%s" not recognized', word);
END $$;

CREATE OR REPLACE FUNCTION pg_redshift.part(word text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE lower(word)
    WHEN 'millennium' THEN 'millennium' WHEN 'millennia' THEN 'millennium' WHEN 'mil' THEN 'millennium'
    WHEN 'mils' THEN 'millennium'
    WHEN 'century' THEN 'century' WHEN 'centuries' THEN 'century' WHEN 'c' THEN 'century' WHEN 'cent' THEN 'century'
    WHEN 'cents' THEN 'century'
    WHEN 'decade' THEN 'decade' WHEN 'decades' THEN 'decade' WHEN 'dec' THEN 'decade' WHEN 'decs' THEN 'decade'
    WHEN 'year' THEN 'year' WHEN 'years' THEN 'year' WHEN 'y' THEN 'year' WHEN 'yr' THEN 'year' WHEN 'yrs' THEN 'year'
    WHEN 'quarter' THEN 'quarter' WHEN 'quarters' THEN 'quarter' WHEN 'qtr' THEN 'quarter' WHEN 'qtrs' THEN 'quarter'
    WHEN 'month' THEN 'month' WHEN 'months' THEN 'month' WHEN 'mon' THEN 'month' WHEN 'mons' THEN 'month'
    WHEN 'week' THEN 'week' WHEN 'weeks' THEN 'week' WHEN 'w' THEN 'week'
    WHEN 'dayofweek' THEN 'dow' WHEN 'dow' THEN 'dow' WHEN 'dw' THEN 'dow' WHEN 'weekday' THEN 'dow'
    WHEN 'day_of_week' THEN 'dow'
    WHEN 'dayofyear' THEN 'doy' WHEN 'doy' THEN 'doy' WHEN 'dy' THEN 'doy' WHEN 'yearday' THEN 'doy'
    WHEN 'day_of_year' THEN 'doy'
    WHEN 'day' THEN 'day' WHEN 'days' THEN 'day' WHEN 'd' THEN 'day'
    WHEN 'hour' THEN 'hour' WHEN 'hours' THEN 'hour' WHEN 'h' THEN 'hour' WHEN 'hr' THEN 'hour' WHEN 'hrs' THEN 'hour'
    WHEN 'minute' THEN 'minute' WHEN 'minutes' THEN 'minute' WHEN 'm' THEN 'minute' WHEN 'min' THEN 'minute'
    WHEN 'mins' THEN 'minute'
    WHEN 'second' THEN 'second' WHEN 'seconds' THEN 'second' WHEN 's' THEN 'second' WHEN 'sec' THEN 'second'
    WHEN 'secs' THEN 'second'
    WHEN 'millisecond' THEN 'millisecond' WHEN 'milliseconds' THEN 'millisecond' WHEN 'ms' THEN 'millisecond'
    WHEN 'msec' THEN 'millisecond' WHEN 'msecs' THEN 'millisecond' WHEN 'msecond' THEN 'millisecond'
    WHEN 'mseconds' THEN 'millisecond' WHEN 'millisec' THEN 'millisecond' WHEN 'millisecs' THEN 'millisecond'
    WHEN 'millisecon' THEN 'millisecond'
    WHEN 'microsecond' THEN 'microsecond' WHEN 'microseconds' THEN 'microsecond' WHEN 'us' THEN 'microsecond'
    WHEN 'usec' THEN 'microsecond' WHEN 'usecs' THEN 'microsecond' WHEN 'usecond' THEN 'microsecond'
    WHEN 'useconds' THEN 'microsecond' WHEN 'microsec' THEN 'microsecond' WHEN 'microsecs' THEN 'microsecond'
    WHEN 'microsecon' THEN 'microsecond'
    WHEN 'epoch' THEN 'epoch' WHEN 'timezone' THEN 'timezone' WHEN 'timezone_hour' THEN 'timezone_hour'
    WHEN 'timezone_minute' THEN 'timezone_minute'
    ELSE pg_redshift.no_part(word)
END $$;

CREATE OR REPLACE FUNCTION pg_redshift.unit(word text) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
SELECT CASE pg_redshift.part(word)
    WHEN 'quarter' THEN interval '3 months' WHEN 'week' THEN interval '7 days' WHEN 'dow' THEN interval '1 day'
    WHEN 'doy' THEN interval '1 day' WHEN 'epoch' THEN interval '1 second'
    ELSE ('1 ' || pg_redshift.part(word))::interval
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.dateadd(text, bigint, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT $3 + $2 * pg_redshift.unit($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dateadd(text, bigint, date) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT $3::timestamp + $2 * pg_redshift.unit($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dateadd(text, bigint, timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT $3 + $2 * pg_redshift.unit($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dateadd(text, bigint, time) RETURNS time LANGUAGE sql IMMUTABLE AS
$$ SELECT $3 + $2 * pg_redshift.unit($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.dateadd(text, bigint, timetz) RETURNS timetz LANGUAGE sql IMMUTABLE AS
$$ SELECT $3 + $2 * pg_redshift.unit($1) $$;

-- The 29th of February plus a year is the 1st of March; plus 12 months, the 28th of February.
CREATE OR REPLACE FUNCTION pg_redshift.add_years(bigint, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN extract(day FROM $2) = 29 AND extract(day FROM $2 + $1 * interval '1 year') = 28
    THEN $2 + $1 * interval '1 year' + interval '1 day' ELSE $2 + $1 * interval '1 year' END $$;
CREATE OR REPLACE FUNCTION pg_redshift.add_years(bigint, date) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.add_years($1, $2::timestamp) $$;
CREATE OR REPLACE FUNCTION pg_redshift.add_years(bigint, timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS $$
SELECT CASE WHEN extract(day FROM $2) = 29 AND extract(day FROM $2 + $1 * interval '1 year') = 28
    THEN $2 + $1 * interval '1 year' + interval '1 day' ELSE $2 + $1 * interval '1 year' END $$;

DO $$
DECLARE
    kind text;
BEGIN
    FOREACH kind IN ARRAY ARRAY['date', 'timestamp', 'timestamptz', 'time', 'timetz', 'interval'] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION pg_redshift.epoch(%s) RETURNS double precision LANGUAGE sql %s AS %L', kind,
                       CASE kind WHEN 'timestamptz' THEN 'STABLE' ELSE 'IMMUTABLE' END, 'SELECT pg_catalog.date_part(''epoch'', '
                       || CASE kind WHEN 'timetz' THEN '($1 AT TIME ZONE ''UTC'')::time' ELSE '$1' END || ')');
    END LOOP;
END $$;

-- The number of boundaries between two moments. https://docs.aws.amazon.com/redshift/latest/dg/r_DATEDIFF_function.html
CREATE OR REPLACE FUNCTION pg_redshift.boundary(word text, moment timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
SELECT CASE pg_redshift.part(word)
    WHEN 'day' THEN moment::date - date '2000-01-01'
    WHEN 'dow' THEN moment::date - date '2000-01-01'
    WHEN 'doy' THEN moment::date - date '2000-01-01'
    WHEN 'month' THEN 12 * extract(year FROM moment) + extract(month FROM moment)
    WHEN 'year' THEN extract(year FROM moment)
    WHEN 'quarter' THEN 4 * extract(year FROM moment) + extract(quarter FROM moment)
    WHEN 'week' THEN floor((moment::date - date '1999-12-26') / 7.0)
    WHEN 'hour' THEN floor(extract(epoch FROM moment) / 3600)
    WHEN 'minute' THEN floor(extract(epoch FROM moment) / 60)
    WHEN 'second' THEN floor(extract(epoch FROM moment))
    WHEN 'epoch' THEN floor(extract(epoch FROM moment))
    WHEN 'millisecond' THEN floor(extract(epoch FROM moment) * 1000)
    WHEN 'microsecond' THEN extract(epoch FROM moment) * 1000000
    WHEN 'decade' THEN floor(extract(year FROM moment) / 10)
    WHEN 'century' THEN extract(century FROM moment)
    WHEN 'millennium' THEN extract(millennium FROM moment)
    ELSE pg_redshift.no_part(word)::bigint
END::bigint $$;

CREATE OR REPLACE FUNCTION pg_catalog.datediff(text, timestamp, timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.boundary($1, $3) - pg_redshift.boundary($1, $2) $$;
CREATE OR REPLACE FUNCTION pg_catalog.datediff(text, date, date) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.boundary($1, $3::timestamp) - pg_redshift.boundary($1, $2::timestamp) $$;
CREATE OR REPLACE FUNCTION pg_catalog.datediff(text, timestamptz, timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.boundary($1, $3 AT TIME ZONE 'UTC') - pg_redshift.boundary($1, $2 AT TIME ZONE 'UTC') $$;
CREATE OR REPLACE FUNCTION pg_catalog.datediff(text, time, time) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.boundary($1, date '2000-01-01' + $3) - pg_redshift.boundary($1, date '2000-01-01' + $2) $$;

-- Milliseconds and microseconds do not contain the seconds, and decades count from 1. https://docs.aws.amazon.com/redshift/latest/dg/r_EXTRACT_function.html
CREATE OR REPLACE FUNCTION pg_redshift.within(text, double precision) RETURNS double precision LANGUAGE sql IMMUTABLE AS $$
SELECT CASE pg_redshift.part($1) WHEN 'millisecond' THEN (floor($2)::bigint % 1000)::double precision
    WHEN 'microsecond' THEN (floor($2)::bigint % 1000000)::double precision
    WHEN 'decade' THEN $2 + 1 ELSE $2 END $$;
CREATE OR REPLACE FUNCTION pg_catalog.datediff(text, timetz, timetz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
SELECT pg_catalog.datediff($1, ($2 AT TIME ZONE 'UTC')::time, ($3 AT TIME ZONE 'UTC')::time) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_part(text, timestamp) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.within($1, pg_catalog.date_part(pg_redshift.part($1), $2)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_part(text, date) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.within($1, pg_catalog.date_part(pg_redshift.part($1), $2)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_part(text, timestamptz) RETURNS double precision LANGUAGE sql STABLE AS
$$ SELECT pg_redshift.within($1, pg_catalog.date_part(pg_redshift.part($1), $2)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_part(text, time) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.within($1, pg_catalog.date_part(pg_redshift.part($1), $2)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_part(text, timetz) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.within($1, pg_catalog.date_part(pg_redshift.part($1), $2)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_part(text, interval) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.within($1, pg_catalog.date_part(pg_redshift.part($1), $2)) $$;
-- DATE_TRUNC of a date is a timestamp, without a zone. https://docs.aws.amazon.com/redshift/latest/dg/r_DATE_TRUNC.html
CREATE OR REPLACE FUNCTION pg_redshift.date_trunc(text, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.date_trunc(pg_redshift.part($1), $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_trunc(text, date) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.date_trunc(pg_redshift.part($1), $2::timestamp) $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_trunc(text, timestamptz) RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT pg_catalog.date_trunc(pg_redshift.part($1), $2) $$;

CREATE OR REPLACE FUNCTION pg_catalog.last_day(timestamp) RETURNS date LANGUAGE sql IMMUTABLE AS
$$ SELECT (date_trunc('month', $1) + interval '1 month - 1 day')::date $$;
CREATE OR REPLACE FUNCTION pg_catalog.last_day(date) RETURNS date LANGUAGE sql IMMUTABLE AS
$$ SELECT (date_trunc('month', $1::timestamp) + interval '1 month - 1 day')::date $$;
-- From the last day of a month to the last day of a month. https://docs.aws.amazon.com/redshift/latest/dg/r_ADD_MONTHS.html
CREATE OR REPLACE FUNCTION pg_catalog.add_months(timestamp, bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN $1::date = last_day($1)
    THEN last_day(date_trunc('month', $1) + $2 * interval '1 month') + $1::time
    ELSE $1 + $2 * interval '1 month' END $$;
CREATE OR REPLACE FUNCTION pg_catalog.add_months(date, bigint) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.add_months($1::timestamp, $2) $$;
-- The result is a whole number when both are the same day or both the last; else a month has 31 days.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_MONTHS_BETWEEN_function.html
CREATE OR REPLACE FUNCTION pg_catalog.months_between(timestamp, timestamp) RETURNS double precision
LANGUAGE sql IMMUTABLE AS $$
SELECT (12 * (extract(year FROM $1) - extract(year FROM $2)) + extract(month FROM $1) - extract(month FROM $2)
    + CASE WHEN extract(day FROM $1) = extract(day FROM $2)
                OR ($1::date = last_day($1) AND $2::date = last_day($2)) THEN 0
           ELSE (extract(day FROM $1) - extract(day FROM $2)
                 + extract(epoch FROM $1::time - $2::time) / 86400) / 31 END)::double precision $$;
CREATE OR REPLACE FUNCTION pg_catalog.months_between(date, date) RETURNS double precision LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.months_between($1::timestamp, $2::timestamp) $$;
CREATE OR REPLACE FUNCTION pg_catalog.next_day(date, text) RETURNS date LANGUAGE sql IMMUTABLE AS $$
SELECT $1 + 1 + (7 + (strpos('sumotuwethfrsa', lower(left($2, 2))) - 1) / 2 - extract(dow FROM $1 + 1)::integer) % 7 $$;
CREATE OR REPLACE FUNCTION pg_catalog.next_day(timestamp, text) RETURNS date LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.next_day($1::date, $2) $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/CONVERT_TIMEZONE.html
CREATE OR REPLACE FUNCTION pg_catalog.convert_timezone(text, timestamp) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT $2 AT TIME ZONE 'UTC' AT TIME ZONE $1 $$;
CREATE OR REPLACE FUNCTION pg_catalog.convert_timezone(text, timestamptz) RETURNS timestamp LANGUAGE sql IMMUTABLE AS
$$ SELECT $2 AT TIME ZONE $1 $$;
CREATE OR REPLACE FUNCTION pg_catalog.convert_timezone(text, text, timestamp) RETURNS timestamp
LANGUAGE sql IMMUTABLE AS $$ SELECT $3 AT TIME ZONE $1 AT TIME ZONE $2 $$;
CREATE OR REPLACE FUNCTION pg_catalog.convert_timezone(text, text, timestamptz) RETURNS timestamp
LANGUAGE sql IMMUTABLE AS $$ SELECT ($3 AT TIME ZONE 'UTC') AT TIME ZONE $1 AT TIME ZONE $2 $$;

CREATE OR REPLACE FUNCTION pg_catalog.trunc(timestamp) RETURNS date LANGUAGE sql IMMUTABLE AS $$ SELECT $1::date $$;
CREATE OR REPLACE FUNCTION pg_catalog.date_part_year(date) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT extract(year FROM $1)::integer $$;

-- Comparisons that return -1, 0 or 1.
CREATE OR REPLACE FUNCTION pg_redshift.cmp(anycompatible, anycompatible) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 WHEN $1 = $2 THEN 0 END $$;
CREATE OR REPLACE FUNCTION pg_redshift.date_cmp(date, date) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.cmp($1, $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.timestamp_cmp(timestamp, timestamp) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.cmp($1, $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.timestamptz_cmp(timestamptz, timestamptz) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.cmp($1, $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.interval_cmp(interval, interval) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.cmp($1, $2) $$;

-- EXTRACT returns whole numbers.
CREATE OR REPLACE FUNCTION pg_redshift.extract(text, timestamp) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT floor(pg_redshift.date_part($1, $2))::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.extract(text, date) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT floor(pg_redshift.date_part($1, $2))::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.extract(text, timestamptz) RETURNS bigint LANGUAGE sql STABLE AS
$$ SELECT floor(pg_redshift.date_part($1, $2))::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.extract(text, time) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT floor(pg_redshift.date_part($1, $2))::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.extract(text, timetz) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT floor(pg_redshift.date_part($1, $2))::bigint $$;
CREATE OR REPLACE FUNCTION pg_redshift.extract(text, interval) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT floor(pg_redshift.date_part($1, $2))::bigint $$;

-- Unless strict, values beyond the range of a field carry over: the 31st of June is the 1st of July.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TO_DATE_function.html
CREATE OR REPLACE FUNCTION pg_redshift.carried_over(value text, format text) RETURNS timestamp LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    field text;
    found integer[] := ARRAY[0, 1, 1, 0, 0, 0];
    words text[] := ARRAY['YYYY', 'MM', 'DD', 'HH24', 'MI', 'SS'];
    pattern text;
BEGIN
    FOR i IN 1..6 LOOP
        -- Every field becomes a pattern of digits, the requested one a group; separators match any character.
        pattern := replace(upper(format), words[i], E'\x01');
        FOREACH field IN ARRAY words LOOP
            pattern := replace(pattern, field, CASE field WHEN 'YYYY' THEN E'\x02' ELSE E'\x03' END);
        END LOOP;
        pattern := regexp_replace(pattern, E'[^\x01\x02\x03]', '.', 'g');
        pattern := replace(replace(pattern, E'\x02', '\d{4}'), E'\x03', '\d{1,2}');
        pattern := replace(pattern, E'\x01', CASE i WHEN 1 THEN '(\d{4})' ELSE '(\d{1,2})' END);
        found[i] := substring(value FROM '^' || pattern || '$')::integer;
        IF position(words[i] IN upper(format)) = 0 THEN
            found[i] := CASE WHEN i IN (2, 3) THEN 1 ELSE 0 END;
        END IF;
    END LOOP;
    RETURN make_timestamp(found[1], 1, 1, 0, 0, 0) + make_interval(months => found[2] - 1)
        + make_interval(days => found[3] - 1, hours => found[4], mins => found[5], secs => found[6]);
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.to_date(value text, format text, strict boolean DEFAULT false) RETURNS date
LANGUAGE plpgsql STABLE AS $$
DECLARE
    carried timestamp;
BEGIN
    RETURN pg_catalog.to_date(value, format);
EXCEPTION WHEN datetime_field_overflow THEN
    carried := CASE WHEN strict THEN NULL ELSE pg_redshift.carried_over(value, format) END;
    IF carried IS NULL THEN RAISE; END IF;
    RETURN carried::date;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.to_timestamp(value text, format text, strict boolean DEFAULT false) RETURNS timestamptz
LANGUAGE plpgsql STABLE AS $$
DECLARE
    carried timestamp;
BEGIN
    RETURN pg_catalog.to_timestamp(value, format);
EXCEPTION WHEN datetime_field_overflow THEN
    carried := CASE WHEN strict THEN NULL ELSE pg_redshift.carried_over(value, format) END;
    IF carried IS NULL THEN RAISE; END IF;
    RETURN carried AT TIME ZONE current_setting('timezone');
END $$;
