-- What Redshift has and PostgreSQL lacks. Run by the gateway in every database; safe to run again.

CREATE SCHEMA IF NOT EXISTS pg_redshift;
GRANT USAGE ON SCHEMA pg_redshift TO PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC;

-- Refusals of the gateway, and errors that Redshift words in its own way.
CREATE OR REPLACE FUNCTION pg_redshift.refuse(code text, message text, hint text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF hint = '' THEN
        RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message;
    END IF;
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = message, HINT = hint;
END $$;

-- Keeps a user's verifier where PostgreSQL keeps its own. Callers have changed the role already, which they may or not.
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

-- Date and time functions. https://docs.aws.amazon.com/redshift/latest/dg/Date_functions_header.html
CREATE OR REPLACE FUNCTION pg_catalog.getdate() RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT date_trunc('second', statement_timestamp() AT TIME ZONE 'UTC') $$;
CREATE OR REPLACE FUNCTION pg_catalog.sysdate() RETURNS timestamp LANGUAGE sql STABLE AS
$$ SELECT transaction_timestamp() AT TIME ZONE 'UTC' $$;
