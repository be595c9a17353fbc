-- Creates the database user that one pipeline's dbt runs as. It reads its sources and owns the schema it builds in.
-- Run it as a superuser, with autocommit. Running it again changes only the password.
--
--   python -m mwaa_release warehouse-user            runs all files, with the password from Secrets Manager
--   psql -v dbt_user=… -v dbt_password=… -v readers=… -v consumers=… -v target_schema=… -v database=… -f dbt_user.sql
--
-- Redshift has no "if not exists" for groups and users, so ignore "already exists" (SQLSTATE 42710) from these create
-- statements. dbt_password is 'sha256|<digest of password and salt>|<salt>': the clear text is neither sent nor logged.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_CREATE_USER.html

create group :"readers";

create user :"dbt_user" with password :'dbt_password' nocreatedb nocreateuser;

alter user :"dbt_user" with password :'dbt_password' nocreatedb nocreateuser;

alter group :"readers" add user :"dbt_user";

create schema if not exists :"target_schema" authorization :"dbt_user";

-- An existing schema keeps its owner in the statement above. dbt drops and renames tables, which needs the owner.
alter schema :"target_schema" owner to :"dbt_user";

-- Users of other pipelines that read the public models of this one. dbt grants each public model to the group.
create group :"consumers";

grant usage on schema :"target_schema" to group :"consumers";

-- dbt's incremental models and snapshots stage rows in temporary tables. dbt never needs to create a schema.
grant temporary on database :"database" to group :"readers";

revoke create on database :"database" from :"dbt_user";

revoke create on database :"database" from group :"readers";
