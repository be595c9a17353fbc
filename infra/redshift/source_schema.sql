-- What a pipeline's dbt user may do with one schema of sources: look in, and read every table, those made later included.
-- Run as a superuser once for each source schema; running it again changes nothing.
--
--   psql -v readers=… -v source_schema=… -v loading_user=… -f source_schema.sql
--
-- Redshift ties the privileges of future tables to the user that will make them: loading_user is who creates tables in
-- this schema. Several loaders need one run each.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_DEFAULT_PRIVILEGES.html

grant usage on schema :"source_schema" to group :"readers";

grant select on all tables in schema :"source_schema" to group :"readers";

alter default privileges for user :"loading_user" in schema :"source_schema" grant select on tables to group :"readers";

revoke create on schema :"source_schema" from group :"readers";
