-- Lets a pipeline's dbt user read one schema of sources: all existing tables, and tables that are created later.
-- Run it as a superuser, once for each source schema. Running it again changes nothing.
--
--   psql -v readers=… -v source_schema=… -v loading_user=… -f source_schema.sql
--
-- Redshift ties the privileges on future tables to the user that creates them: loading_user creates the tables in this
-- schema. Run the file once for each loading user.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_ALTER_DEFAULT_PRIVILEGES.html

create schema if not exists :"source_schema";

grant usage on schema :"source_schema" to group :"readers";

grant select on all tables in schema :"source_schema" to group :"readers";

alter default privileges for user :"loading_user" in schema :"source_schema" grant select on tables to group :"readers";

revoke create on schema :"source_schema" from group :"readers";
