"""The sample project builds as the dbt user, and handles changed sources."""

import pytest
import redshift_connector
from audit_database import PASSWORD, sample_slice


def test_every_flight_is_a_departure_and_2400_is_midnight(built, database):
    flights = sample_slice()["flights"]
    assert database.run("select count(*) from analytics.departures") == [(len(flights),)]
    late = [row for row in flights if row["dep_time"] == "2400"]
    assert late
    minutes = database.run("select count(*) from analytics.stg_flights where departure_minute = 0")
    assert minutes == [(len(late),)]
    # A flight that left at midnight left on the next day.
    assert database.run(
        "select count(*) from analytics.stg_flights where departure_minute = 0"
        " and cast(convert_timezone('UTC', 'America/New_York', departed_at) as date) = flight_date + 1"
    ) == [(len(late),)]


def test_dbt_user_has_no_other_permission(built, database):
    connection = database.warehouse.connect("dbt_user", PASSWORD)
    for statement in ("create schema other", "delete from landing.flights", "create table landing.mine (a integer)"):
        with (
            connection.cursor() as cursor,
            pytest.raises(redshift_connector.ProgrammingError, match="permission denied"),
        ):
            cursor.execute(statement)
        connection.rollback()
    connection.close()


def test_developer_builds_in_a_separate_schema(built, dbt, database):
    database.add_user("ada", "dbt_ada")
    before = database.run("select count(*) from analytics.audit_table")
    finished = dbt("run", "--select", "tag:audit", "+carriers", target="dev", user="ada", schema="dbt_ada")
    assert finished.code == 0, finished.output
    assert database.run("select count(*) from dbt_ada.carriers") == [(16,)]
    assert len(database.audit_rows(finished.invocation_id, "dbt_ada")) == len(finished.nodes) == 3
    assert database.run("select count(*) from analytics.audit_table") == before


def test_late_rows_are_counted_and_the_snapshot_keeps_old_versions(built, dbt, database):
    (newest,) = database.run("select max(flight_date) from analytics.daily_performance")[0]
    per_day = "select flight_date, sum(scheduled_flights) from analytics.daily_performance group by 1"
    before = dict(database.run(per_day))
    plane, seats = database.run("select tail_number, seat_count from analytics.planes order by 1 limit 1")[0]
    deleted_plane = database.run("select max(tail_number) from analytics.planes")[0][0]
    columns = (
        "dep_time, sched_dep_time, dep_delay, arr_time, sched_arr_time, arr_delay, carrier, tailnum, origin, dest,"
        " air_time, distance, hour, minute"
    )
    for number, days in ((9901, 2), (9902, 200)):
        # Two late flights: one within look_back_days of the newest day, and one long before.
        database.run(
            f"insert into landing.flights (year, month, day, time_hour, flight, {columns})"
            f" select date_part(year, d), date_part(month, d), date_part(day, d), d, {number}, {columns}"
            f" from (select *, cast(dateadd(day, -{days}, %s) as timestamp) as d from landing.flights"
            " where dep_time = 2400 limit 1) as f",
            [newest],
        )
    database.run("update landing.planes set seats = seats + 1 where tailnum = %s", [plane])
    database.run("delete from landing.planes where tailnum = %s", [deleted_plane])
    try:
        kinds = ["--resource-type", "model", "--resource-type", "snapshot"]
        finished = dbt("build", *kinds, "--select", "planes_snapshot", "departures", "daily_performance")
        assert finished.code == 0, finished.output
    finally:
        database.run("delete from landing.flights where flight in (9901, 9902)")
    after = dict(database.run(per_day))
    changed = {day: flights - before.get(day, 0) for day, flights in after.items() if flights != before.get(day)}
    assert [((newest - day).days, more) for day, more in changed.items()] == [(2, 1)]
    states = database.run(
        "select seat_count, dbt_valid_to is null from analytics.planes_snapshot where tail_number = %s order by 1",
        [plane],
    )
    assert states == [(seats, False), (seats + 1, True)]
    assert database.run(
        "select dbt_valid_to is null from analytics.planes_snapshot where tail_number = %s", [deleted_plane]
    ) == [(False,)]
