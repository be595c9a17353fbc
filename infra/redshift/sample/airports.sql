-- Sample source landing.airports: airports with location and time zone.
-- A second load replaces the rows in one transaction, so readers see the old rows until it commits.
--
--   psql --single-transaction -v source_url=s3://…/nycflights13/airports/ -v source_region=us-east-1 \
--     -v iam_role=default -f airports.sql

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

-- truncate would commit on its own.
-- https://docs.aws.amazon.com/redshift/latest/dg/r_TRUNCATE.html
delete from landing.airports;

copy landing.airports (
    faa,
    name,
    lat,
    lon,
    alt,
    tz,
    dst,
    tzone
)
from :'source_url'
iam_role :iam_role
region :'source_region'
csv gzip ignoreheader 1 null as 'NA' timeformat 'auto';
