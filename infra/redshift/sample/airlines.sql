-- Sample source landing.airlines: the carriers, by their two-letter code.
-- The pipeline loads its files (setting load in dags/pipelines.yml).
--
--   psql -f airlines.sql

create schema if not exists landing;

create table if not exists landing.airlines (
    carrier varchar(2),
    name varchar(100),
    loaded_at timestamp default getdate()
);
