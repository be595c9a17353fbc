"""Parts of the runner without AWS: connections in every form that Airflow reads, and news when S3 fails."""

import io
import json
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mwaa_pipelines.errors import PipelineError
from mwaa_pipelines.runner import stream
from mwaa_pipelines.runner.connection import Connection, read_connection
from mwaa_pipelines.runner.stream import BatchReader, BatchWriter, batch_key

COMPLETE = Connection("c.example", 5439, "dev", "dbt", "p/w:1", {"sslmode": "disable"})


class FakeSecrets:
    """A secret with this text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_secret_value(self, **_: str) -> dict[str, str]:
        return {"SecretString": self.text}


def connection(text: str) -> Connection:
    return read_connection(FakeSecrets(text), "airflow/connections/shop", "shop")


@pytest.mark.parametrize(
    "text",
    [
        '{"conn_type": "redshift", "host": "c.example", "port": 5439, "schema": "dev", "login": "dbt", '
        '"password": "p/w:1", "extra": {"sslmode": "disable"}}',
        '{"server": "c.example", "port": "5439", "database": "dev", "user": "dbt", "pass": "p/w:1", '
        '"extra": "{\\"sslmode\\": \\"disable\\"}"}',
        "redshift://dbt:p%2Fw%3A1@c.example:5439/dev?sslmode=disable",
        "redshift://dbt:p%2Fw%3A1@c.example:5439/dev?__extra__=%7B%22sslmode%22%3A+%22disable%22%7D",
    ],
)
def test_connection_is_read_in_every_form_of_airflow(text: str) -> None:
    assert connection(text) == COMPLETE


def test_connection_can_lack_login_port_and_extra() -> None:
    assert connection('{"host": "c.example", "schema": "dev"}') == Connection("c.example", None, "dev")
    assert connection("redshift://c.example/dev") == Connection("c.example", None, "dev")


@pytest.mark.parametrize("text", ["", "words", "{", '{"port": "a"}', '{"extra": "["}', "redshift://h:port/dev"])
def test_secret_that_is_no_connection_is_named_without_its_value(text: str) -> None:
    with pytest.raises(PipelineError, match="the secret 'airflow/connections/shop' must have") as raised:
        connection(text)
    assert raised.value.__cause__ is None


class NoSuchKeyError(Exception):
    pass


class FakeS3:
    """Objects in memory. It fails as often as told."""

    def __init__(self, failures: int = 0) -> None:
        self.objects: dict[str, bytes] = {}
        self.failures = failures
        self.exceptions = type("Exceptions", (), {"NoSuchKey": NoSuchKeyError})

    def put_object(self, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803 - names of boto3
        if self.failures:
            self.failures -= 1
            raise EndpointConnectionError(endpoint_url="http://s3")
        self.objects[Key] = Body

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - names of boto3
        if Key not in self.objects:
            raise NoSuchKeyError
        return {"Body": io.BytesIO(self.objects[Key])}


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SECONDS", 0.02)


def test_news_survive_a_failure_of_s3_in_their_order() -> None:
    s3 = FakeS3(failures=3)
    writer = BatchWriter(s3, "s3://bucket/run")
    reader = BatchReader(s3, "s3://bucket/run")
    for number in range(20):
        writer.add_line(str(number))
        writer.push("status", number)
        time.sleep(0.01)
    writer.close(1, "why")
    batches = list(reader.read())
    assert [line for batch in batches for line in batch.lines] == [str(number) for number in range(20)]
    assert [batch.xcoms["status"] for batch in batches if batch.xcoms][-1] == 19
    assert [batch.is_last for batch in batches] == [False] * (len(batches) - 1) + [True]
    assert (batches[-1].exit_code, batches[-1].error) == (1, "why")
    assert list(reader.read()) == []


def test_runner_without_news_gives_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.1)
    s3 = FakeS3()
    writer = BatchWriter(s3, "s3://bucket/run")
    time.sleep(0.5)
    assert 3 <= len(s3.objects) <= 6
    assert json.loads(s3.objects[batch_key("run", 0)])["lines"] == []
    writer.close(0)
    assert list(BatchReader(s3, "s3://bucket/run").read())[-1].exit_code == 0


def test_news_after_a_pause_are_written_at_once_and_then_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SECONDS", 2.0)
    s3 = FakeS3()
    writer = BatchWriter(s3, "s3://bucket/run")
    time.sleep(2.2)
    writer.add_line("first")
    until = time.monotonic() + 1
    while len(s3.objects) < 2:
        assert time.monotonic() < until
        time.sleep(0.01)
    for _ in range(5):
        writer.push("status", 1)
        time.sleep(0.1)
    assert len(s3.objects) == 2
    writer.close(0)
    assert [batch.lines for batch in BatchReader(s3, "s3://bucket/run").read()] == [[], ["first"], []]


def test_last_news_that_s3_never_takes_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_LAST_SECONDS", 0.2)
    writer = BatchWriter(FakeS3(failures=1_000_000), "s3://bucket/run")
    with pytest.raises(EndpointConnectionError):
        writer.close(0)


def test_reader_passes_on_other_errors() -> None:
    s3 = FakeS3()
    denied = ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetObject")

    def deny(**_: str) -> None:
        raise denied

    s3.get_object = deny  # type: ignore[method-assign, assignment]
    with pytest.raises(ClientError):
        list(BatchReader(s3, "s3://bucket/run").read())
