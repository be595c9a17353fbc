-- Sample source landing.planes: aircraft by tail number, as registered with the FAA.
-- The pipeline loads its files (setting load in dags/pipelines.yml).
--
--   psql -f planes.sql

create schema if not exists landing;

create table if not exists landing.planes (
    tailnum varchar(6),
    year integer,
    type varchar(64),
    manufacturer varchar(64),
    model varchar(64),
    engines integer,
    seats integer,
    speed integer,
    engine varchar(32),
    loaded_at timestamp default getdate()
);
