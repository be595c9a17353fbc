-- Sample source landing.airports: airports with location and time zone.
-- The pipeline loads its files (setting load in dags/pipelines.yml).
--
--   psql -f airports.sql

create schema if not exists landing;

create table if not exists landing.airports (
    faa varchar(3),
    name varchar(100),
    lat double precision,
    lon double precision,
    alt integer,
    tz integer,
    dst varchar(1),
    tzone varchar(64),
    loaded_at timestamp default getdate()
);
