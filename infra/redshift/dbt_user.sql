-- The database user that one pipeline's dbt runs as: it reads its sources, owns the schema it builds in, and nothing else.
-- Run as a superuser, with autocommit; a second run changes nothing except the password.
--
--   python -m mwaa_release warehouse-user            makes all of it, with the password from Secrets Manager
--   psql -v dbt_user=… -v dbt_password=… -v readers=… -v target_schema=… -v database=… -f dbt_user.sql
--
-- Redshift has no "if not exists" for groups and users, so "already exists" (SQLSTATE 42710) is an accepted answer to
-- the two create statements. dbt_password is 'sha256|<digest of password and salt>|<salt>': no plain text is sent or logged.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html

create group :"readers";

create user :"dbt_user" with password :'dbt_password' nocreatedb nocreateuser;

alter user :"dbt_user" with password :'dbt_password' nocreatedb nocreateuser;

alter group :"readers" add user :"dbt_user";

create schema if not exists :"target_schema" authorization :"dbt_user";

-- A schema that was there before keeps its owner above. dbt drops and renames what it builds, which only an owner may.
alter schema :"target_schema" owner to :"dbt_user";

-- dbt's incremental models and snapshots stage rows in temporary tables. A new schema is never dbt's to make.
grant temporary on database :"database" to group :"readers";

revoke create on database :"database" from :"dbt_user";

revoke create on database :"database" from group :"readers";
