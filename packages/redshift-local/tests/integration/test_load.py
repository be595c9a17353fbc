"""COPY from S3 and UNLOAD to it."""

import bz2
import gzip
import json
import subprocess
import sys
import time

import boto3
import pytest
import redshift_connector

BUCKET = "warehouse-load"


@pytest.fixture(scope="module")
def s3(redshift_s3):
    client = boto3.client(
        "s3",
        endpoint_url=redshift_s3["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def put(s3, request):
    """Puts files under a new prefix; returns the prefix's address."""
    prefix = request.node.name

    def store(*files: bytes | str) -> str:
        for number, file in enumerate(files):
            body = file.encode() if isinstance(file, str) else file
            s3.put_object(Bucket=BUCKET, Key=f"{prefix}/{number}", Body=body)
        return f"s3://{BUCKET}/{prefix}/"

    return store


@pytest.fixture
def run(warehouse):
    connection = warehouse.connect()
    connection.autocommit = True
    connection.run("create table loaded (a int, b varchar(5), c date, d timestamp, e numeric(6,2), f boolean)")

    def go(sql: str) -> list[list]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return (
                [[None if value is None else str(value) for value in row] for row in cursor.fetchall()]
                if cursor.description
                else []
            )

    yield go
    if connection.run("select count(*) from svv_tables where table_name = 'loaded'") != ([0],):
        connection.run("drop table loaded")
    connection.close()


def test_csv_with_header_gzip_and_null_is_loaded(run, put):
    where = put(gzip.compress(b"a,b,c,d,e,f\n1,x,2024-01-01,2024-01-01T10:00:00Z,1.5,t\nNA,NA,NA,NA,NA,NA\n"))
    run(f"copy loaded from '{where}' iam_role default csv gzip ignoreheader 1 null as 'NA' timeformat 'auto'")
    assert run("select * from loaded order by a") == [
        ["1", "x", "2024-01-01", "2024-01-01 10:00:00", "1.50", "True"],
        [None] * 6,
    ]
    assert run("select pg_last_copy_count()") == [["2"]]


def test_all_objects_are_loaded_with_or_without_a_final_newline(run, put):
    where = put("1,a\n2,b", "3,c\n", "4,d")
    run(f"copy loaded (a, b) from '{where}' iam_role default csv")
    assert run("select a, b from loaded order by a") == [["1", "a"], ["2", "b"], ["3", "c"], ["4", "d"]]


def test_empty_fields_are_null_in_numbers_and_empty_in_text(run, put):
    run(f"copy loaded (a, b) from '{put(chr(10).join(['1,', ',x', '2,NULL']))}' iam_role default csv")
    assert run("select a, b from loaded order by 2") == [["1", ""], ["2", "NULL"], [None, "x"]]


def test_delimited_text_with_escapes_and_formats_is_loaded(run, put):
    where = put("1|a\\|b|31.12.2024|12/31/2024 23:59|2.5|yes\n2|\\N|01.01.2024|01/01/2024 00:00|-1|0\n")
    run(
        f"copy loaded from '{where}' iam_role 'arn:aws:iam::123456789012:role/r' delimiter '|' escape"
        " dateformat 'DD.MM.YYYY' timeformat 'MM/DD/YYYY HH:MI'"
    )
    assert run("select * from loaded order by a") == [
        ["1", "a|b", "2024-12-31", "2024-12-31 23:59:00", "2.50", "True"],
        ["2", None, "2024-01-01", "2024-01-01 00:00:00", "-1.00", "False"],
    ]


def test_json_auto_and_bzip2_are_loaded(run, put):
    text = '{"a": 1, "b": "x", "unknown": 5}\n{"b": null, "a": 2}\n{"a":3,\n "f": true}'
    run(f"copy loaded from '{put(bz2.compress(text.encode()))}' iam_role default json 'auto' bzip2")
    assert run("select a, b, f from loaded order by a") == [["1", "x", None], ["2", None, None], ["3", None, "True"]]


def test_manifest_lists_the_files(run, put, s3):
    put("1,a\n", "2,b\n")
    entries = [
        {"url": f"s3://{BUCKET}/test_manifest_lists_the_files/1", "mandatory": True},
        {"url": f"s3://{BUCKET}/none"},
    ]
    s3.put_object(Bucket=BUCKET, Key="manifest.json", Body=json.dumps({"entries": entries}))
    run(f"copy loaded (a, b) from 's3://{BUCKET}/manifest.json' iam_role default csv manifest")
    assert run("select a, b from loaded") == [["2", "b"]]


def test_values_longer_than_the_column_are_refused_or_truncated(run, put):
    where = put("1,ééé\n")
    with pytest.raises(redshift_connector.Error, match="Load into table 'loaded' failed"):
        run(f"copy loaded (a, b) from '{where}' iam_role default csv")
    run(f"copy loaded (a, b) from '{where}' iam_role default csv truncatecolumns")
    assert run("select b from loaded") == [["éé"]]


def test_load_errors_name_file_line_column_and_reason(run, put):
    where = put("1,a\nx,b\n3,toolong\n")
    with pytest.raises(redshift_connector.Error, match="Check 'stl_load_errors' system table for details"):
        run(f"copy loaded (a, b) from '{where}' iam_role default csv")
    assert run("select count(*) from loaded") == [["0"]]
    errors = run(
        "select line_number, trim(colname), trim(raw_field_value), err_code, trim(err_reason) from stl_load_errors"
        " where filename like '%test_load_errors%' order by starttime desc limit 1"
    )
    assert errors == [["2", "a", "x", "1207", "Invalid digit, Value 'x', Pos 0, Type: Integer"]]


def test_load_error_detail_has_the_columns_of_redshift(warehouse, run, put):
    with pytest.raises(redshift_connector.Error):
        run(f"copy loaded (a, b) from '{put('1,a', 'x,b')}' iam_role default csv")
    with warehouse.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "select * from sys_load_error_detail where file_name like '%test_load_error_detail%'"
            " and table_id = 'loaded'::regclass::oid::int"
        )
        (row,) = cursor.fetchall()
        error = {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
    # https://docs.aws.amazon.com/redshift/latest/dg/SYS_LOAD_ERROR_DETAIL.html
    assert list(error) == [
        *("user_id", "query_id", "transaction_id", "session_id", "database_name", "table_id", "start_time"),
        *("file_name", "line_number", "column_name", "column_type", "column_length", "position"),
        *("error_code", "error_message"),
    ]
    assert error["file_name"].rstrip().endswith("/1")
    assert (error["line_number"], error["column_name"].rstrip(), error["error_code"]) == (1, "a", 1207)
    assert error["error_message"].rstrip() == "Invalid digit, Value 'x', Pos 0, Type: Integer"


def test_maxerror_skips_bad_rows(run, put):
    where = put("1,a", "x,b\n3,toolong\n4,d")
    run(f"copy loaded (a, b) from '{where}' iam_role default csv maxerror 2")
    assert run("select a from loaded order by a") == [["1"], ["4"]]
    assert run("select count(*) from sys_load_error_detail where file_name like '%test_maxerror%'") == [["2"]]


def test_copy_runs_in_the_clients_transaction(warehouse, put):
    where = put("1,a\n", "2,b\n")
    with warehouse.connect() as connection:
        connection.run("create table undone (a int, b varchar(5))")
        connection.run("insert into undone values (0, 'z')")
        connection.run(f"copy undone from '{where}' iam_role default csv")
        assert connection.run("select count(*) from undone") == ([3],)
        connection.rollback()
        assert connection.run("select count(*) from svv_tables where table_name = 'undone'") == ([0],)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (f"s3://{BUCKET}/nothing/", "The specified S3 prefix 'nothing/' does not exist"),
        ("s3://no-such-bucket-here/x", "NoSuchBucket"),
        ("nowhere", "not supported by the local warehouse: COPY FROM 'nowhere'"),
    ],
)
def test_missing_sources_are_named(run, s3, where, text):
    with pytest.raises(redshift_connector.Error, match=text):
        run(f"copy loaded from '{where}' iam_role default csv")


def test_broken_archives_and_missing_tables_are_refused(run, put):
    where = put("not packed")
    with pytest.raises(redshift_connector.Error, match="is not packed with gzip"):
        run(f"copy loaded (a, b) from '{where}' iam_role default csv gzip")
    with pytest.raises(redshift_connector.Error, match="Cannot COPY into nonexistent table nowhere"):
        run(f"copy nowhere from '{where}' iam_role default csv")
    assert run("select 1") == [["1"]]


def test_unloaded_files_can_be_loaded(run, s3):
    run("insert into loaded values (1, 'a|\\\\\\'', '2024-01-01', null, 1.5, true), (2, null, null, null, null, false)")
    for form in ("csv header", "delimiter '|' escape null as '@'", "json", "gzip escape null as '@'"):
        where = f"s3://{BUCKET}/unloaded/{abs(hash(form))}/"
        run(f"unload ('select * from loaded') to '{where}' iam_role default {form}")
        back = {
            "csv header": "csv ignoreheader 1",
            "json": "json 'auto'",
        }.get(form, form)
        run("create table back (like loaded)")
        run(f"copy back from '{where}' iam_role default {back}")
        assert run("select a, b, c, e, f from back order by a") in (
            [["1", "a|\\'", "2024-01-01", "1.50", "True"], ["2", None, None, None, "False"]],
            [["1", "a|\\'", "2024-01-01", "1.50", "True"], ["2", "", None, None, "False"]],  # CSV has one form for both
        ), form
        run("drop table back")


def test_super_values_are_loaded_and_unloaded_as_they_are(run, put, s3):
    documents = ['{"b":{"z":1,"a":[]},"a":"é"}', '"text"', "1.50", '["a b",null]']
    where = put("".join(f'{{"n": {n}, "doc": {document}}}\n' for n, document in enumerate(documents)))
    run("create table documents (n int, doc super)")
    run(f"copy documents from '{where}' iam_role default json 'auto'")
    assert run("select doc from documents order by n") == [[document.replace("1.50", "1.5")] for document in documents]
    run("""insert into documents values (4, json_parse('{"b" :
        [1, {"\\\\u00e9": "a: b"} ]}'))""")
    run(f"unload ('select doc from documents where n = 4') to 's3://{BUCKET}/documents/' iam_role default json")
    body = s3.get_object(Bucket=BUCKET, Key="documents/0000_part_00")["Body"].read().decode()
    run("drop table documents")
    assert body == '{"doc":{"b":[1,{"é":"a: b"}]}}\n'


def test_unload_refuses_existing_files(run, s3):
    where = f"s3://{BUCKET}/occupied/"
    run(f"unload ('select 1') to '{where}' iam_role default")
    with pytest.raises(redshift_connector.Error, match="unload destination on S3 is not empty"):
        run(f"unload ('select 2') to '{where}' iam_role default")
    run(f"unload ('select 3') to '{where}' iam_role default allowoverwrite")
    assert s3.get_object(Bucket=BUCKET, Key="occupied/0000_part_00")["Body"].read() == b"3\n"


def test_client_killed_during_copy_leaves_no_partial_load(run, put, warehouse):
    where = put(*["".join(f"{number},x\n" for number in range(100_000))] * 10)
    program = (
        "import redshift_connector, sys\n"
        f"connection = redshift_connector.connect(host={warehouse.host!r}, port={warehouse.port}, ssl=False,"
        f" user={warehouse.user!r}, password={warehouse.password!r}, database='dev')\n"
        "print(connection.run('select pg_backend_pid()')[0][0], flush=True)\n"
        f"connection.run(\"copy loaded (a, b) from '{where}' iam_role default csv delimiter ','\")\n"
    )
    client = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    session = int(client.stdout.readline())
    deadline = time.monotonic() + 30
    while (
        run(f"select count(*) from svv_transactions where pid = {session}") == [["0"]] and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    client.kill()
    client.wait()
    while run(f"select count(*) from stv_sessions where process = {session}") != [["0"]]:
        assert time.monotonic() < deadline, "the session of the killed client is still there"
        time.sleep(0.1)
    assert run("select count(*) from loaded") == [["0"]]
    run(f"copy loaded (a, b) from '{where}0' iam_role default csv")
    assert run("select count(*) from loaded") == [["100000"]]
