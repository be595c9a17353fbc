-- Lets a pipeline's dbt user read the public models of another pipeline, and nothing else of its schema.
-- Run it as a superuser, once for each schema that the pipeline reads.
--
--   psql -v dbt_user=… -v consumers=… -f consumer.sql

create group :"consumers";

alter group :"consumers" add user :"dbt_user";
