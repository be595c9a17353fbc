-- Sample source landing.flights: every flight out of New York's three airports in 2013.
-- The pipeline loads its files (setting load in dags/pipelines.yml).
--
--   psql -f flights.sql

create schema if not exists landing;

create table if not exists landing.flights (
    year integer,
    month integer,
    day integer,
    dep_time integer,
    sched_dep_time integer,
    dep_delay integer,
    arr_time integer,
    sched_arr_time integer,
    arr_delay integer,
    carrier varchar(2),
    flight integer,
    tailnum varchar(6),
    origin varchar(3),
    dest varchar(3),
    air_time integer,
    distance integer,
    hour integer,
    minute integer,
    time_hour timestamp,
    loaded_at timestamp default getdate()
);
