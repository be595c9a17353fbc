"""The notification function: messages for valid payloads, errors for invalid payloads."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mwaa_pipelines.alert import Alert, AlertNode, json_schema

HANDLER = Path(__file__).parents[3] / "lambda" / "handler.py"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:flights-alerts"


def load(topic: str | None = TOPIC):
    """Load the module as Lambda does: from its file, with `TOPIC_ARN` in the environment."""
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("TOPIC_ARN", raising=False)
        environment.setenv("AWS_ACCESS_KEY_ID", "none")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "none")
        if topic is not None:
            environment.setenv("TOPIC_ARN", topic)
        spec = importlib.util.spec_from_file_location("notification_handler", HANDLER)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


handler = load()

PAYLOAD = {
    "dag_name": "flights_pipeline",
    "run_id": "scheduled__2013-01-01T00:00:00+00:00",
    "logical_date": "2013-01-01T00:00:00+00:00",
    "release_id": "20261124T085516Z-8f5a9fa",
    "log_url": "https://airflow.example.com/dags/flights_pipeline/runs/1/tasks/dbt_check",
    "failed": [
        {
            "unique_id": "model.flights.fct_flights",
            "status": "error",
            "message": "Database Error in model fct_flights (models/marts/fct_flights.sql)\n"
            "  \x1b[31mcolumn x does not exist\n  compiled code at target/run/fct_flights.sql",
            "try_number": 2,
            "execution_time": 12.345,
        },
        {
            "unique_id": "test.flights.unique_flight_id",
            "status": "fail",
            "message": "Got 3 results, configured to fail\nx",
        },
    ],
}

# The text of the email.
FAILED_TEXT = """Pipeline flights_pipeline FAILED.

Run:          scheduled__2013-01-01T00:00:00+00:00
Logical date: 2013-01-01T00:00:00+00:00
Release:      20261124T085516Z-8f5a9fa
Log:          https://airflow.example.com/dags/flights_pipeline/runs/1/tasks/dbt_check

2 failed:
- model.flights.fct_flights (error, try 2, 12.3 s)
  Database Error in model fct_flights (models/marts/fct_flights.sql): column x does not exist
- test.flights.unique_flight_id (fail)
  Got 3 results, configured to fail

What to do:
1. Open the log above and find the cause: the model, its source data, or the cluster.
2. Release a fix, or roll back to the release before.
3. Clear the failed tasks of this run in Airflow: they run again, and so does what depends on them."""


def published(monkeypatch, payload) -> dict[str, str]:
    """Return the message that the handler publishes for `payload`."""
    sent = []
    monkeypatch.setattr(handler._sns, "publish", lambda **call: sent.append(call) or {"MessageId": "1"})
    assert handler.lambda_handler(payload, None) == {"message_id": "1"}
    (call,) = sent
    assert call["MessageStructure"] == "json"
    return {**call, **json.loads(call["Message"]), "Message": json.loads(call["Message"])["default"]}


def test_full_payload_becomes_an_alert_with_instructions(monkeypatch):
    call = published(monkeypatch, PAYLOAD)
    assert call["TopicArn"] == TOPIC
    assert call["Subject"] == "FAILED flights_pipeline: model.flights.fct_flights and 1 more"
    assert call["Message"] == FAILED_TEXT
    # Only a repeated failure names the last success.
    assert published(monkeypatch, {**PAYLOAD, "last_success": "2012-12-24"})["Message"] == FAILED_TEXT


def test_payload_with_only_the_pipeline_name_is_valid(monkeypatch):
    call = published(monkeypatch, {"dag_name": "flights_pipeline"})
    assert call["Subject"] == "FAILED flights_pipeline"
    assert "\nNo dbt node was reported as failed; the log says which task was.\n\nWhat to do:" in call["Message"]
    assert "Open the run in Airflow" in call["Message"]
    assert "Run:" not in call["Message"]


def test_subject_stays_short_after_conversion_to_ascii(monkeypatch):
    # This character becomes eighteen ASCII characters.
    call = published(monkeypatch, {"dag_name": "\ufdfa" * 20, "failed": [{"unique_id": f"model.{'m' * 200}.last"}]})
    assert len(call["Subject"]) < 100
    assert call["Subject"].endswith(".last")


def test_sms_is_one_short_line(monkeypatch):
    call = published(monkeypatch, {**PAYLOAD, "dag_name": "flights_pipeline"})
    assert call["sms"] == "FAILED flights_pipeline: model.flights.fct_flights and 1 more"
    long = published(monkeypatch, {"dag_name": "d" * 200, "failed": [{"unique_id": "m" * 300}]})
    assert len(long["sms"]) == handler.SMS_CHARACTERS


@pytest.mark.parametrize("protocol", handler.PROGRAMS)
def test_program_subscribers_get_the_payload_as_json(monkeypatch, protocol):
    document = json.loads(published(monkeypatch, {**PAYLOAD, "status": "failed"})[protocol])
    assert document["dag_name"] == "flights_pipeline"
    assert [node["unique_id"] for node in document["failed"]] == [node["unique_id"] for node in PAYLOAD["failed"]]
    assert "\x1b" not in document["failed"][0]["message"]
    assert (document["status"], document["warned"], document["again"]) == ("failed", [], False)


def test_repeated_failure_names_the_last_success(monkeypatch):
    call = published(monkeypatch, {**PAYLOAD, "again": True, "last_success": "2012-12-24T06:00:00+00:00"})
    assert call["Subject"].startswith("FAILED AGAIN flights_pipeline: ")
    assert "Failed since: the run after that of 2012-12-24T06:00:00+00:00" in call["Message"].splitlines()


def test_warning_is_not_reported_as_a_failure(monkeypatch):
    warned = [{"unique_id": "test.flights.unique", "status": "warn", "message": "Got 3 results, configured to warn"}]
    call = published(monkeypatch, {**PAYLOAD, "status": "warned", "failed": [], "warned": warned})
    assert call["Subject"] == "WARNED flights_pipeline: test.flights.unique"
    assert "1 warned:\n- test.flights.unique (warn)\n  Got 3 results, configured to warn" in call["Message"]
    assert "What to do" not in call["Message"]
    assert "FAILED" not in call["Message"]


def test_recovery_is_reported_as_ok_again(monkeypatch):
    recovered = {"status": "recovered", "failed": [], "again": True, "last_success": "2012-12-24T06:00:00+00:00"}
    call = published(monkeypatch, {**PAYLOAD, **recovered})
    assert call["Subject"] == call["sms"] == "OK AGAIN flights_pipeline"
    assert call["Message"].startswith("Pipeline flights_pipeline OK AGAIN.")


@pytest.mark.parametrize(("minutes", "text"), [({"deadline_minutes": 90}, " after 90 minutes"), ({}, "")])
def test_late_run_is_not_reported_as_a_failure(monkeypatch, minutes, text):
    call = published(monkeypatch, {**PAYLOAD, "failed": [], "status": "late", **minutes})
    assert call["Subject"] == call["sms"] == "LATE flights_pipeline"
    lines = call["Message"].splitlines()
    assert lines[0] == "Pipeline flights_pipeline LATE."
    assert lines[-1] == f"The run is not finished{text}. It continues; if it fails, another alert is sent."
    assert PAYLOAD["run_id"] in call["Message"]
    assert "What to do" not in call["Message"]


@pytest.mark.parametrize(("key", "other"), [("failed", "warned"), ("warned", "failed")])
def test_long_list_is_cut_and_states_the_remaining_number(monkeypatch, key, other):
    nodes = [{"unique_id": f"model.flights.m{n}", "status": "error", "message": 'é"' * 200} for n in range(5000)]
    sent = []
    monkeypatch.setattr(handler._sns, "publish", lambda **call: sent.append(call) or {"MessageId": "1"})
    handler.lambda_handler({**PAYLOAD, key: nodes, other: nodes[:3]}, None)
    whole = sent[0]["Message"]
    # At most 30 percent of the limit stay unused.
    assert handler.MESSAGE_BYTES * 0.7 < len(whole.encode()) <= 256 * 1024
    text = json.loads(whole)["default"]
    listed_nodes = text.split(f"5000 {key}:")[1].split("... and")[0].count("- model.flights.m")
    assert f"... and {5000 - listed_nodes} more" in text
    assert len(json.loads(json.loads(whole)["https"])[key]) == listed_nodes
    assert "What to do:" in text


BAD_PAYLOADS = [
    (None, "the payload"),
    ([], "the payload"),
    ("flights_pipeline", "the payload"),
    ({}, "dag_name"),
    ({"dag_name": None}, "dag_name"),
    ({"dag_name": " \n"}, "dag_name"),
    ({"dag_name": 3}, "dag_name"),
    ({"dag_name": "p", "run_id": {}}, "run_id"),
    ({"dag_name": "p", "status": "broken"}, "status"),
    ({"dag_name": "p", "status": ["failed"]}, "status"),
    ({"dag_name": "p", "status": ""}, "status"),
    ({"dag_name": "p", "again": 0}, "again"),
    ({"dag_name": "p", "again": "yes"}, "again"),
    ({"dag_name": "p", "last_success": 7}, "last_success"),
    ({"dag_name": "p", "status": "late", "deadline_minutes": "60"}, "deadline_minutes"),
    ({"dag_name": "p", "warned": {}}, "warned"),
    ({"dag_name": "p", "failed": [{"unique_id": "m", "execution_time": float("nan")}]}, "failed[0].execution_time"),
    ({"dag_name": "p", "failed": [{"unique_id": "m", "execution_time": 10**400}]}, "failed[0].execution_time"),
    ({"dag_name": "p", "failed": "model.a.b"}, "failed"),
    ({"dag_name": "p", "failed": [{"unique_id": "m"}, "m"]}, "failed[1]"),
    ({"dag_name": "p", "failed": [{"status": "error"}]}, "failed[0].unique_id"),
    ({"dag_name": "p", "failed": [{"unique_id": "m", "message": ["x"]}]}, "failed[0].message"),
    ({"dag_name": "p", "failed": [{"unique_id": "m", "try_number": "1"}]}, "failed[0].try_number"),
    ({"dag_name": "p", "failed": [{"unique_id": "m", "try_number": True}]}, "failed[0].try_number"),
]


@pytest.mark.parametrize(("payload", "key"), BAD_PAYLOADS)
def test_invalid_payload_is_an_error_that_names_the_key(payload, key):
    with pytest.raises(handler.InvalidPayloadError, match=f"^{re.escape(key)}(: | must)"):
        handler.lambda_handler(payload, None)


@pytest.mark.parametrize(
    "topic", [None, "", "flights-alerts", TOPIC + ".fifo", TOPIC + "\n", TOPIC.replace("sns", "sqs")]
)
def test_invalid_topic_arn_is_an_error_at_import(topic):
    with pytest.raises(RuntimeError, match=r"^TOPIC_ARN"):
        load(topic)


def test_sns_is_called_in_the_region_of_the_topic():
    assert handler._sns.meta.region_name == "eu-west-1"


def test_sns_requests_end_before_the_function_times_out():
    config = handler._sns.meta.config
    attempts = config.retries["total_max_attempts"]
    assert attempts * (config.connect_timeout + config.read_timeout) < 30


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
# All characters, including lone surrogates, which json.loads creates from "\ud800".
any_text = st.text(st.characters(exclude_categories=()), max_size=300)
nodes = st.fixed_dictionaries(
    {"unique_id": any_text},
    optional={
        "status": any_text,
        "message": any_text,
        "try_number": st.integers(0, 9) | st.none(),
        "execution_time": st.floats() | st.none(),
    },
)
likely_payloads = st.fixed_dictionaries(
    {"dag_name": any_text},
    optional={key: any_text | st.none() for key in ("run_id", "logical_date", "release_id", "log_url")}
    | {key: st.lists(nodes | json_values, max_size=5) for key in ("failed", "warned")}
    | {"status": st.sampled_from([*handler.STATUSES, "another"]), "again": st.booleans(), "another": json_values}
    | {"deadline_minutes": st.integers(0, 10080) | json_values},
)


@given(json_values | likely_payloads)
def test_any_payload_is_rejected_by_key_or_gives_a_valid_sns_message(payload):
    try:
        alert = handler._validated(payload)
    except handler.InvalidPayloadError as error:
        keys = (
            r"the payload|dag_name|run_id|logical_date|release_id|log_url|failed|warned|status|again|deadline_minutes"
        )
        assert re.match(keys, str(error))  # noqa: PT017
        return
    subject, structure = handler.subject(alert), handler.messages(alert)
    assert subject.startswith(tuple(handler.STATUSES.values()))
    assert len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    assert len(structure.encode("utf-8")) <= handler.MESSAGE_BYTES
    for protocol, message in json.loads(structure).items():
        assert len(message) > 0
        assert protocol != "sms" or len(message) <= handler.SMS_CHARACTERS
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]", message)
        assert protocol not in handler.PROGRAMS or json.loads(message)["dag_name"]


# --- the pipelines' model of the payload ---

NODE = {"unique_id": "model.flights.fct_flights"}


def test_schema_beside_the_handler_is_up_to_date() -> None:
    text = HANDLER.with_name("alert.schema.json").read_text()
    assert text == json_schema(), "write it: python -m mwaa_pipelines.alert > lambda/alert.schema.json"


@pytest.mark.parametrize(
    "payload",
    [
        {"dag_name": "p"},
        PAYLOAD,
        dict.fromkeys(Alert.model_fields) | {"dag_name": "p"},
        {"dag_name": "p", "failed": [dict.fromkeys(AlertNode.model_fields) | NODE]},
        {"dag_name": "p", "unknown": 1, "failed": [NODE | {"unknown": 1}]},
        {"dag_name": "p", "status": "late", "deadline_minutes": 90},
        {"dag_name": "p", "status": "recovered", "again": True, "last_success": "2026-01-01"},
        {"dag_name": "p", "status": "warned", "warned": [NODE | {"execution_time": 1, "try_number": 2}]},
    ],
)
def test_model_and_handler_accept_the_same_payloads(payload: dict[str, Any]) -> None:
    jsonschema.validate(payload, json.loads(json_schema()))
    read = Alert.model_validate(payload)
    validated = handler._validated(json.loads(read.payload()))
    assert set(validated) == set(Alert.model_fields)
    for nodes in (validated["failed"], validated["warned"]):
        assert all(set(node) == set(AlertNode.model_fields) for node in nodes)


@pytest.mark.parametrize(("payload", "key"), BAD_PAYLOADS)
def test_model_and_handler_reject_the_same_payloads(payload: Any, key: str) -> None:
    with pytest.raises(handler.InvalidPayloadError):
        handler._validated(payload)
    with pytest.raises(ValidationError) as raised:
        Alert.model_validate(payload)
    # JSON has no NaN.
    assert "nan" in repr(payload) or not jsonschema.Draft202012Validator(json.loads(json_schema())).is_valid(payload)
    location = raised.value.errors()[0]["loc"]
    assert not location or str(location[0]) == key.split("[")[0]


@pytest.mark.parametrize("status", handler.STATUSES)
def test_handler_knows_every_status_of_the_model(status: str) -> None:
    assert Alert(dag_name="p", status=status).status == status
    with pytest.raises(ValidationError):
        Alert(dag_name="p", status="other")
