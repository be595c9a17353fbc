"""The database user has least privileges, and the sample data is loaded once."""

import secrets

import boto3
import pytest
import redshift_connector

from mwaa_pipelines.load_files import Loader
from mwaa_release import sample_data
from mwaa_release.errors import DeployError
from mwaa_release.pipelines import first_pipeline
from mwaa_release.redshift import apply_grants, consumers, error_code
from mwaa_release.sample_data import create_tables, upload_sample

ROWS = {"airlines": 16, "airports": 1458, "planes": 3322, "weather": 26115, "flights": 336776}
PASSWORD = 'it\'s \\ "n" é; -- $$'


@pytest.fixture(scope="session")
def warehouse(redshift_with_s3):
    return redshift_with_s3


@pytest.fixture
def admin(warehouse):
    connection = warehouse.connect()
    connection.autocommit = True
    yield connection
    connection.close()


@pytest.fixture
def s3(redshift_s3):
    return boto3.client(
        "s3",
        endpoint_url=redshift_s3["AWS_ENDPOINT_URL"],
        region_name=redshift_s3["AWS_DEFAULT_REGION"],
        aws_access_key_id=redshift_s3["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=redshift_s3["AWS_SECRET_ACCESS_KEY"],
    )


@pytest.fixture
def landing_bucket(s3) -> str:
    name = f"landing-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("sample")


def run(connection: redshift_connector.Connection, query: str):
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall() if cursor.description else None


class Pipeline:
    """Unique schemas and a database user for one test."""

    def __init__(self, warehouse, admin) -> None:
        self.id = secrets.token_hex(4)
        self.user, self.source, self.target = f"dbt_{self.id}", f"source_{self.id}", f"marts_{self.id}"
        self.warehouse, self.admin = warehouse, admin
        run(admin, f"create schema {self.source}")
        run(admin, f"create table {self.source}.before (a integer)")
        run(admin, f"insert into {self.source}.before values (1)")

    def grant(self, password: str = PASSWORD, **more) -> None:
        apply_grants(self.admin, self.user, password, self.source, self.target, **more)

    def connect(self, password: str = PASSWORD) -> redshift_connector.Connection:
        connection = self.warehouse.connect(self.user, password)
        connection.autocommit = True
        return connection


@pytest.fixture
def pipeline(warehouse, admin):
    return Pipeline(warehouse, admin)


def test_database_user_can_read_sources_and_build_in_its_schema(pipeline):
    pipeline.grant()
    run(pipeline.admin, f"create table {pipeline.source}.after (a integer)")
    user = pipeline.connect()
    assert run(user, f"select a from {pipeline.source}.before") == ([1],)
    assert run(user, f"select a from {pipeline.source}.after") == ()
    run(user, f"create table {pipeline.target}.built as select a from {pipeline.source}.before")
    run(user, f"create temporary table staged as select a from {pipeline.target}.built")
    run(user, f"alter table {pipeline.target}.built rename to renamed")
    run(user, f"drop table {pipeline.target}.renamed")


def test_consumer_reads_public_models_and_nothing_else_of_the_schema(pipeline, warehouse, admin):
    pipeline.grant()
    consumer = Pipeline(warehouse, admin)
    consumer.grant(public_schemas=[pipeline.target])
    builder = pipeline.connect()
    for name in ("public_mart", "private_mart"):
        run(builder, f"create table {pipeline.target}.{name} as select 1 as a")
    # As dbt grants a public model.
    run(builder, f"grant select on {pipeline.target}.public_mart to group {consumers(pipeline.target)}")
    user = consumer.connect()
    assert run(user, f"select a from {pipeline.target}.public_mart") == ([1],)
    for statement in (
        f"select a from {pipeline.target}.private_mart",
        f"delete from {pipeline.target}.public_mart",
        f"create table {pipeline.target}.own (a integer)",
    ):
        with pytest.raises(redshift_connector.Error, match="permission denied"):
            run(user, statement)
    # The builder reads nothing of the consumer.
    run(user, f"create table {consumer.target}.mart as select 1 as a")
    with pytest.raises(redshift_connector.Error, match="permission denied"):
        run(builder, f"select a from {consumer.target}.mart")


@pytest.mark.parametrize(
    "statement",
    [
        "create schema own_{id}",
        "create table public.own_{id} (a integer)",
        "create table {source}.own (a integer)",
        "insert into {source}.before values (2)",
        "delete from {source}.before",
        "update {source}.before set a = 2",
        "drop table {source}.before",
        "select a from {other}.secret",
        "create user own_{id} with password 'Abcdefg1'",
        "create database own_{id}",
        "alter schema {source} owner to {user}",
    ],
)
def test_database_user_has_no_other_permission(pipeline, statement):
    pipeline.grant()
    other = f"other_{pipeline.id}"
    run(pipeline.admin, f"create schema {other}")
    run(pipeline.admin, f"create table {other}.secret (a integer)")
    user = pipeline.connect()
    with pytest.raises(redshift_connector.Error) as raised:
        run(user, statement.format(**vars(pipeline), other=other))
    assert error_code(raised.value) == "42501", raised.value
    assert run(pipeline.admin, f"select a from {pipeline.source}.before") == ([1],)


def test_second_grant_changes_only_the_password(pipeline):
    pipeline.grant()
    user = pipeline.connect()
    run(user, f"create table {pipeline.target}.kept as select 1 as a")
    pipeline.grant("Another1password")
    with pytest.raises(redshift_connector.Error):
        pipeline.connect()
    assert run(pipeline.connect("Another1password"), f"select a from {pipeline.target}.kept") == ([1],)


def test_grant_errors_show_no_password_and_keep_the_connection_settings(pipeline):
    pipeline.admin.autocommit = False
    with pytest.raises(DeployError, match=r"source_schema\.sql.*nobody") as raised:
        pipeline.grant(loading_user="nobody")
    assert "sha256" not in str(raised.value)
    assert pipeline.admin.autocommit is False
    pipeline.admin.autocommit = True
    pipeline.grant()
    with pytest.raises(DeployError, match="create group") as raised:
        apply_grants(pipeline.connect(), "other", PASSWORD, pipeline.source, "other")
    assert PASSWORD not in str(raised.value)


def test_missing_source_schema_is_created(pipeline):
    source = f"new_{pipeline.id}"
    apply_grants(pipeline.admin, pipeline.user, PASSWORD, source, pipeline.target)
    run(pipeline.admin, f"create table {source}.later as select 1 as a")
    assert run(pipeline.connect(), f"select a from {source}.later") == ([1],)


def test_names_with_quotes_and_spaces_are_supported(warehouse, admin):
    name = f"odd \"name'; drop schema public; -- {secrets.token_hex(3)}"
    source = f"src {secrets.token_hex(3)}"
    run(admin, f'create schema "{source}"')
    apply_grants(admin, name, PASSWORD, source, f"{name} marts")
    connection = warehouse.connect(name, PASSWORD)
    assert run(connection, "select current_user") == ([name],)


def test_user_can_load_files_only_into_the_tables_of_its_pipeline(pipeline):
    run(pipeline.admin, f"create table {pipeline.source}.loaded (a integer)")
    pipeline.grant(loaded_tables=[f"{pipeline.source}.loaded"])
    user = pipeline.connect()
    run(user, f"insert into {pipeline.source}.loaded values (1)")
    for statement in (f"insert into {pipeline.source}.before values (2)", f"delete from {pipeline.source}.loaded"):
        with pytest.raises(redshift_connector.Error, match="permission denied"):
            run(user, statement)


def test_sample_data_is_loaded_completely_and_once(pipeline, admin, s3, landing_bucket, cache):
    messages = []
    uploaded = upload_sample(s3, landing_bucket, cache, lambda what, done, total: messages.append((done, total)))
    assert sorted(uploaded) == sorted(f"nycflights13/{table}/{table}.csv.gz" for table in ROWS)
    assert messages[-1] == (5, 5)
    assert upload_sample(s3, landing_bucket, cache) == []
    sample = first_pipeline()
    create_tables(admin, pipeline.target)
    # An earlier version has loaded the sample itself.
    run(admin, "insert into landing.airlines (carrier) values ('XX')")
    create_tables(admin, pipeline.target)
    pipeline.grant(loaded_tables=[table.table for table in sample.load])
    connection = pipeline.connect()
    for _ in range(2):
        for table in sample.load:
            assert Loader(connection, s3, pipeline.target).load(table, landing_bucket).problems == ()
        create_tables(admin, pipeline.target)
        for table, count in ROWS.items():
            assert run(admin, f"select count(*) from landing.{table}") == ([count],)
    # 'NA' is loaded as null, times as timestamps, and every row has its load time.
    query = "select count(*) - count(dep_time), min(time_hour)::varchar, count(loaded_at) from landing.flights"
    (row,) = run(admin, query)
    assert row == [8255, "2013-01-01 10:00:00", 336776]
    (row,) = run(admin, "select count(*) - count(wind_gust), count(*) - count(temp) from landing.weather")
    assert row == [20778, 1]


def test_changed_file_in_the_landing_bucket_is_replaced(s3, landing_bucket, cache):
    upload_sample(s3, landing_bucket, cache)
    key = "nycflights13/airlines/airlines.csv.gz"
    s3.put_object(Bucket=landing_bucket, Key=key, Body=b"x")
    assert upload_sample(s3, landing_bucket, cache) == [key]


def test_sample_csv_files_are_reproducible_and_created_once(tmp_path):
    first = sample_data.compressed("airports", tmp_path / "one")
    second = sample_data.compressed("airports", tmp_path / "two")
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    created = first.stat().st_mtime_ns
    assert sample_data.compressed("airports", tmp_path / "one").stat().st_mtime_ns == created
