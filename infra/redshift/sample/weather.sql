-- Sample source landing.weather: hourly weather at New York's three airports in 2013.
-- A second load replaces the rows in one transaction, so readers see the old rows until it commits.
--
--   psql --single-transaction -v source_url=s3://…/nycflights13/weather/ -v source_region=us-east-1 \
--     -v iam_role=default -f weather.sql

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

-- truncate would commit on its own.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html
delete from landing.weather;

copy landing.weather (
    origin,
    year,
    month,
    day,
    hour,
    temp,
    dewp,
    humid,
    wind_dir,
    wind_speed,
    wind_gust,
    precip,
    pressure,
    visib,
    time_hour
)
from :'source_url'
iam_role :iam_role
region :'source_region'
csv gzip ignoreheader 1 null as 'NA' timeformat 'auto';
