-- String and hash functions. https://docs.aws.amazon.com/redshift/latest/dg/String_functions_header.html

CREATE OR REPLACE FUNCTION pg_catalog.len(text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT length($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.len(bytea) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT length($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.textlen(text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT length($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.charindex(text, text) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT strpos($2, $1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.octetindex(text, text) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT position(convert_to($1, 'UTF8') IN convert_to($2, 'UTF8')) $$;
CREATE OR REPLACE FUNCTION pg_catalog.replicate(text, integer) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT repeat($1, $2) $$;
-- Null if either is null, unlike PostgreSQL's. https://docs.aws.amazon.com/redshift/latest/dg/r_CONCAT.html
CREATE OR REPLACE FUNCTION pg_redshift.concat(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT $1 || $2 $$;
CREATE OR REPLACE FUNCTION pg_redshift.concat(bytea, bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT $1 || $2 $$;
-- Strings and numbers concatenate too. https://docs.aws.amazon.com/redshift/latest/dg/r_concat_op.html
CREATE OR REPLACE FUNCTION pg_catalog.bpcharcmp(text, text) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN rtrim($1) < rtrim($2) THEN -1 WHEN rtrim($1) > rtrim($2) THEN 1 ELSE 0 END $$;
CREATE OR REPLACE FUNCTION pg_redshift.bttext_pattern_cmp(text, text) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 ELSE 0 END $$;

-- Regular expressions. Flags: i, c, and p for Perl's dialect, which PostgreSQL's advanced one comes close to.
-- https://docs.aws.amazon.com/redshift/latest/dg/REGEXP_REPLACE.html
CREATE OR REPLACE FUNCTION pg_redshift.flags(text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT translate($1, 'pe', '') $$;
CREATE OR REPLACE FUNCTION pg_redshift.regexp_replace(
    source text, pattern text, replacement text DEFAULT '', start integer DEFAULT 1, parameters text DEFAULT 'c'
) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT pg_catalog.regexp_replace(source, pattern, regexp_replace(replacement, '\$(\d)', '\\\1', 'g'), start, 0,
                                 pg_redshift.flags(parameters)) $$;
-- "Must be an integer greater than 0." https://docs.aws.amazon.com/redshift/latest/dg/SPLIT_PART.html
-- PostgreSQL counts negative positions from the end, and refuses 0.
CREATE OR REPLACE FUNCTION pg_redshift.split_part(value text, delimiter text, part integer) RETURNS text
LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.split_part(value, delimiter, CASE WHEN part < 0 THEN 0 ELSE part END) $$;

-- An empty string where nothing matches. https://docs.aws.amazon.com/redshift/latest/dg/REGEXP_SUBSTR.html
CREATE OR REPLACE FUNCTION pg_redshift.regexp_substr(
    source text, pattern text, start integer DEFAULT 1, occurrence integer DEFAULT 1, parameters text DEFAULT 'c'
) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN source IS NULL OR pattern IS NULL THEN NULL ELSE coalesce(
    pg_catalog.regexp_substr(source, pattern, start, occurrence, pg_redshift.flags(parameters),
                             CASE WHEN strpos(parameters, 'e') > 0 THEN 1 ELSE 0 END), '') END $$;
CREATE OR REPLACE FUNCTION pg_redshift.regexp_instr(
    source text, pattern text, start integer DEFAULT 1, occurrence integer DEFAULT 1, option integer DEFAULT 0,
    parameters text DEFAULT 'c'
) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
SELECT pg_catalog.regexp_instr(source, pattern, start, occurrence, option, pg_redshift.flags(parameters)) $$;
CREATE OR REPLACE FUNCTION pg_redshift.regexp_count(
    source text, pattern text, start integer DEFAULT 1, parameters text DEFAULT 'c'
) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_catalog.regexp_count(source, pattern, start, pg_redshift.flags(parameters)) $$;

-- https://docs.aws.amazon.com/redshift/latest/dg/r_STRTOL.html
CREATE OR REPLACE FUNCTION pg_catalog.strtol(digits text, base integer) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    word text := lower(trim(digits));
    negative boolean := left(word, 1) = '-';
    total numeric := 0;
    value integer;
BEGIN
    word := ltrim(word, '+-');
    IF base = 16 AND left(word, 2) = '0x' THEN
        word := substr(word, 3);
    END IF;
    IF base NOT BETWEEN 2 AND 36 OR word = '' THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('The input %s is not valid to be converted to base %s', digits, base);
    END IF;
    FOR i IN 1..length(word) LOOP
        value := strpos('0123456789abcdefghijklmnopqrstuvwxyz', substr(word, i, 1)) - 1;
        IF value < 0 OR value >= base THEN
            RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = format('The input %s is not valid to be converted to base %s', digits, base);
        END IF;
        total := total * base + value;
    END LOOP;
    RETURN CASE WHEN negative THEN -total ELSE total END;
END $$;

CREATE OR REPLACE FUNCTION pg_redshift.sha1_hex(bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
-- PostgreSQL has no SHA-1 without an extension. FIPS 180-4, section 6.1.2.
DECLARE
    m bytea := $1 || '\x80'::bytea;
    bits bigint := length($1)::bigint * 8;
    h bigint[] := ARRAY[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    w bigint[];
    a bigint; b bigint; c bigint; d bigint; e bigint; f bigint; k bigint; t bigint;
    mask CONSTANT bigint := 4294967295;
BEGIN
    WHILE length(m) % 64 <> 56 LOOP
        m := m || '\x00'::bytea;
    END LOOP;
    m := m || decode(lpad(to_hex(bits), 16, '0'), 'hex');
    FOR chunk IN 0..length(m) / 64 - 1 LOOP
        FOR i IN 0..15 LOOP
            w[i] := (get_byte(m, chunk * 64 + i * 4)::bigint << 24) | (get_byte(m, chunk * 64 + i * 4 + 1) << 16)
                  | (get_byte(m, chunk * 64 + i * 4 + 2) << 8) | get_byte(m, chunk * 64 + i * 4 + 3);
        END LOOP;
        FOR i IN 16..79 LOOP
            t := w[i - 3] # w[i - 8] # w[i - 14] # w[i - 16];
            w[i] := ((t << 1) | (t >> 31)) & mask;
        END LOOP;
        a := h[1]; b := h[2]; c := h[3]; d := h[4]; e := h[5];
        FOR i IN 0..79 LOOP
            IF i < 20 THEN f := (b & c) | (~b & mask & d); k := 1518500249;
            ELSIF i < 40 THEN f := b # c # d; k := 1859775393;
            ELSIF i < 60 THEN f := (b & c) | (b & d) | (c & d); k := 2400959708;
            ELSE f := b # c # d; k := 3395469782;
            END IF;
            t := ((((a << 5) | (a >> 27)) & mask) + f + e + k + w[i]) & mask;
            e := d; d := c; c := ((b << 30) | (b >> 2)) & mask; b := a; a := t;
        END LOOP;
        h := ARRAY[(h[1] + a) & mask, (h[2] + b) & mask, (h[3] + c) & mask, (h[4] + d) & mask, (h[5] + e) & mask];
    END LOOP;
    RETURN lpad(to_hex(h[1]), 8, '0') || lpad(to_hex(h[2]), 8, '0') || lpad(to_hex(h[3]), 8, '0')
        || lpad(to_hex(h[4]), 8, '0') || lpad(to_hex(h[5]), 8, '0');
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.func_sha1(text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.sha1_hex(convert_to($1, 'UTF8')) $$;
CREATE OR REPLACE FUNCTION pg_catalog.sha1(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT func_sha1($1) $$;
CREATE OR REPLACE FUNCTION pg_catalog.sha(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT func_sha1($1) $$;
-- https://docs.aws.amazon.com/redshift/latest/dg/SHA2.html
CREATE OR REPLACE FUNCTION pg_catalog.sha2(text, integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT encode(CASE $2 WHEN 224 THEN sha224(convert_to($1, 'UTF8')) WHEN 384 THEN sha384(convert_to($1, 'UTF8'))
    WHEN 512 THEN sha512(convert_to($1, 'UTF8')) WHEN 0 THEN sha256(convert_to($1, 'UTF8'))
    WHEN 256 THEN sha256(convert_to($1, 'UTF8')) END, 'hex') $$;
-- The polynomial of CRC-32C. https://docs.aws.amazon.com/redshift/latest/dg/crc32-function.html
CREATE OR REPLACE FUNCTION pg_redshift.crc32(text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT lpad(to_hex(pg_catalog.crc32c(convert_to($1, 'UTF8'))), 8, '0') $$;
CREATE OR REPLACE FUNCTION pg_catalog.soundex(word text) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    letters text := upper(regexp_replace(word, '[^A-Za-z]', '', 'g'));
    codes text := translate(letters, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', '01230120022455012623010202');
    made text := left(letters, 1);
    last text := left(codes, 1);
    code text;
BEGIN
    FOR i IN 2..length(letters) LOOP
        code := substr(codes, i, 1);
        IF code <> '0' AND code <> last THEN
            made := made || code;
        END IF;
        IF substr(letters, i, 1) NOT IN ('H', 'W') THEN
            last := code;
        END IF;
    END LOOP;
    RETURN CASE WHEN made = '' THEN '' ELSE left(rpad(made, 4, '0'), 4) END;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.difference(text, text) RETURNS integer LANGUAGE sql IMMUTABLE AS $$
SELECT (SELECT count(*)::integer FROM generate_series(1, 4) AS i
        WHERE substr(soundex($1), i, 1) = substr(soundex($2), i, 1)) $$;

-- VARBYTE. https://docs.aws.amazon.com/redshift/latest/dg/varbyte-functions.html
CREATE OR REPLACE FUNCTION pg_catalog.to_varbyte(text, text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
SELECT CASE lower($2) WHEN 'hex' THEN decode(repeat('0', length($1) % 2) || $1, 'hex') WHEN 'base64' THEN decode($1, 'base64')
    WHEN 'utf8' THEN convert_to($1, 'UTF8') WHEN 'utf-8' THEN convert_to($1, 'UTF8')
    WHEN 'binary' THEN decode(lpad(to_hex(lpad($1, 64, '0')::bit(64)::bigint), (length($1) + 7) / 8 * 2, '0'), 'hex') END $$;
CREATE OR REPLACE FUNCTION pg_catalog.from_varbyte(bytea, text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT CASE lower($2) WHEN 'hex' THEN encode($1, 'hex') WHEN 'base64' THEN encode($1, 'base64')
    WHEN 'utf8' THEN convert_from($1, 'UTF8') WHEN 'utf-8' THEN convert_from($1, 'UTF8')
    WHEN 'binary' THEN (SELECT string_agg(get_byte($1, i)::bit(8)::text, '' ORDER BY i) FROM generate_series(0, length($1) - 1) AS i) END $$;
CREATE OR REPLACE FUNCTION pg_redshift.as_text(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT convert_from($1, 'UTF8') $$;
CREATE OR REPLACE FUNCTION pg_redshift.as_varchar(bytea) RETURNS varchar LANGUAGE sql IMMUTABLE AS
$$ SELECT convert_from($1, 'UTF8')::varchar $$;
CREATE OR REPLACE FUNCTION pg_redshift.as_bytes(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT convert_to($1, 'UTF8') $$;
CREATE OR REPLACE FUNCTION pg_redshift.as_bytes(varchar) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT convert_to($1::text, 'UTF8') $$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_cast WHERE castsource = 'bytea'::regtype AND casttarget = 'text'::regtype) THEN
        CREATE CAST (bytea AS text) WITH FUNCTION pg_redshift.as_text(bytea) AS ASSIGNMENT;
        CREATE CAST (bytea AS varchar) WITH FUNCTION pg_redshift.as_varchar(bytea) AS ASSIGNMENT;
        CREATE CAST (text AS bytea) WITH FUNCTION pg_redshift.as_bytes(text) AS ASSIGNMENT;
        CREATE CAST (varchar AS bytea) WITH FUNCTION pg_redshift.as_bytes(varchar) AS ASSIGNMENT;
    END IF;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.sha2(bytea, integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT encode(CASE $2 WHEN 224 THEN sha224($1) WHEN 384 THEN sha384($1) WHEN 512 THEN sha512($1) WHEN 0 THEN sha256($1)
    WHEN 256 THEN sha256($1) END, 'hex') $$;
-- https://docs.aws.amazon.com/redshift/latest/dg/r_VARBYTE_OPERATORS.html
CREATE OR REPLACE FUNCTION pg_redshift.bitwise(sign text, bytea, bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    made bytea := $2;
    other integer;
BEGIN
    IF length($2) <> length($3) THEN
        RAISE EXCEPTION USING ERRCODE = '22023', MESSAGE = 'VARBYTE values must be of the same length';
    END IF;
    FOR i IN 0..length($2) - 1 LOOP
        other := get_byte($3, i);
        made := set_byte(made, i, CASE sign WHEN '&' THEN get_byte($2, i) & other WHEN '|' THEN get_byte($2, i) | other
                                  ELSE get_byte($2, i) # other END);
    END LOOP;
    RETURN made;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.bits_and(bytea, bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.bitwise('&', $1, $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.bits_or(bytea, bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.bitwise('|', $1, $2) $$;
CREATE OR REPLACE FUNCTION pg_redshift.bits_not(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT pg_redshift.bitwise('#', $1, decode(repeat('ff', length($1)), 'hex')) $$;
DO $$
BEGIN
    IF to_regoperator('pg_catalog.&(bytea,bytea)') IS NULL THEN
        CREATE OPERATOR pg_catalog.& (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = pg_redshift.bits_and);
        CREATE OPERATOR pg_catalog.| (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = pg_redshift.bits_or);
        CREATE OPERATOR pg_catalog.~ (RIGHTARG = bytea, FUNCTION = pg_redshift.bits_not);
    END IF;
END $$;
CREATE OR REPLACE FUNCTION pg_catalog.from_hex(text) RETURNS bytea LANGUAGE sql IMMUTABLE AS
$$ SELECT decode($1, 'hex') $$;
CREATE OR REPLACE FUNCTION pg_catalog.to_hex(bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT encode($1, 'hex') $$;
CREATE OR REPLACE FUNCTION pg_catalog.getbit(bytea, integer) RETURNS integer LANGUAGE sql IMMUTABLE AS
$$ SELECT get_bit($1, ((length($1) - 1 - $2 / 8) * 8 + $2 % 8)) $$;
DO $$
BEGIN
    IF to_regoperator('pg_catalog.+(bytea,bytea)') IS NULL THEN
        CREATE OPERATOR pg_catalog.+ (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = byteacat);
    END IF;
END $$;

-- 64-bit FNV-1a over a value's bytes, least significant first. https://docs.aws.amazon.com/redshift/latest/dg/r_FNV_HASH.html
CREATE OR REPLACE FUNCTION pg_redshift.fnv(bytes bytea, seed bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    hash numeric := CASE WHEN seed < 0 THEN seed + 18446744073709551616 ELSE seed END;
    low integer;
BEGIN
    FOR i IN 0..length(bytes) - 1 LOOP
        low := (hash % 256)::integer;
        hash := (hash - low + (low # get_byte(bytes, i))) * 1099511628211 % 18446744073709551616;
    END LOOP;
    RETURN CASE WHEN hash > 9223372036854775807 THEN hash - 18446744073709551616 ELSE hash END;
END $$;
CREATE OR REPLACE FUNCTION pg_redshift.reversed(bytea) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
SELECT string_agg(substr($1, i, 1), '' ORDER BY i DESC) FROM generate_series(1, length($1)) AS i $$;
CREATE OR REPLACE FUNCTION pg_catalog.fnv_hash(text, bigint DEFAULT -3750763034362895579) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.fnv(convert_to($1, 'UTF8'), $2) $$;
CREATE OR REPLACE FUNCTION pg_catalog.fnv_hash(smallint, bigint DEFAULT -3750763034362895579) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.fnv(pg_redshift.reversed(int2send($1)), $2) $$;
CREATE OR REPLACE FUNCTION pg_catalog.fnv_hash(integer, bigint DEFAULT -3750763034362895579) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.fnv(pg_redshift.reversed(int4send($1)), $2) $$;
CREATE OR REPLACE FUNCTION pg_catalog.fnv_hash(bigint, bigint DEFAULT -3750763034362895579) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT pg_redshift.fnv(pg_redshift.reversed(int8send($1)), $2) $$;
