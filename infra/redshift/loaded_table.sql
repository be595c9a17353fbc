-- Lets a pipeline's dbt user load files into a source table. Run it as a superuser, once for each table of the setting load.
-- With new_columns: add, the user must also own the table: alter table … owner to …
--
--   psql -v readers=… -v source_schema=… -v source_table=… -f loaded_table.sql

grant usage on schema :"source_schema" to group :"readers";

grant select, insert on :"source_schema".:"source_table" to group :"readers";
