-- Sample source landing.weather: hourly weather at New York's three airports in 2013.
-- The pipeline loads its files (setting load in dags/pipelines.yml).
--
--   psql -f weather.sql

create schema if not exists landing;

create table if not exists landing.weather (
    origin varchar(3),
    year integer,
    month integer,
    day integer,
    hour integer,
    temp double precision,
    dewp double precision,
    humid double precision,
    wind_dir integer,
    wind_speed double precision,
    wind_gust double precision,
    precip double precision,
    pressure double precision,
    visib double precision,
    time_hour timestamp,
    loaded_at timestamp default getdate()
);
