"""The notification function on its own: what it makes of payloads, and what it refuses."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

HANDLER = Path(__file__).parents[3] / "lambda" / "handler.py"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:flights-alerts"


def load(topic: str | None = TOPIC):
    """The module as Lambda loads it: by its file, with `TOPIC_ARN` in the environment."""
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
        },
        {
            "unique_id": "test.flights.unique_flight_id",
            "status": "fail",
            "message": "Got 3 results, configured to fail\nx",
        },
    ],
}


def published(monkeypatch, payload) -> dict[str, str]:
    """What the handler hands to SNS for `payload`."""
    sent = []
    monkeypatch.setattr(handler._sns, "publish", lambda **call: sent.append(call) or {"MessageId": "1"})
    assert handler.lambda_handler(payload, None) == {"message_id": "1"}
    (call,) = sent
    return call


def test_a_full_payload_becomes_an_alert_to_act_on(monkeypatch):
    call = published(monkeypatch, PAYLOAD)
    assert call["TopicArn"] == TOPIC
    assert call["Subject"] == "FAILED flights_pipeline: model.flights.fct_flights and 1 more"
    lines = call["Message"].splitlines()
    assert lines[0] == "Pipeline flights_pipeline FAILED."
    for key in ("run_id", "logical_date", "release_id", "log_url"):
        assert PAYLOAD[key] in call["Message"]
    assert "2 failed:" in lines
    node = lines.index("- model.flights.fct_flights (error, try 2)")
    assert lines[node + 1 : node + 4] == [
        "  Database Error in model fct_flights (models/marts/fct_flights.sql): column x does not exist",
        "- test.flights.unique_flight_id (fail)",
        "  Got 3 results, configured to fail",
    ]
    assert "What to do:" in lines


def test_the_name_of_the_pipeline_is_enough(monkeypatch):
    call = published(monkeypatch, {"dag_name": "flights_pipeline"})
    assert call["Subject"] == "FAILED flights_pipeline"
    assert "No dbt node was reported" in call["Message"]
    assert "Run:" not in call["Message"]


def test_a_subject_stays_short_whatever_its_characters_become_in_ascii(monkeypatch):
    # One character of this name is eighteen once it is spelled out.
    call = published(monkeypatch, {"dag_name": "\ufdfa" * 20, "failed": [{"unique_id": f"model.{'m' * 200}.last"}]})
    assert len(call["Subject"]) < 100
    assert call["Subject"].endswith(".last")


def test_a_list_too_long_is_cut_and_says_how_many_are_left(monkeypatch):
    nodes = [{"unique_id": f"model.flights.m{n}", "status": "error", "message": "é" * 400} for n in range(5000)]
    text = published(monkeypatch, {**PAYLOAD, "failed": nodes})["Message"]
    size = len(text.encode())
    assert handler.MESSAGE_BYTES - 2000 < size <= handler.MESSAGE_BYTES
    shown = text.count("- model.flights.m")
    assert f"... and {5000 - shown} more" in text
    assert "5000 failed:" in text
    assert "What to do:" in text


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (None, "the payload"),
        ([], "the payload"),
        ("flights_pipeline", "the payload"),
        ({}, "dag_name"),
        ({"dag_name": None}, "dag_name"),
        ({"dag_name": " \n"}, "dag_name"),
        ({"dag_name": 3}, "dag_name"),
        ({"dag_name": "p", "run_id": {}}, "run_id"),
        ({"dag_name": "p", "failed": "model.a.b"}, "failed"),
        ({"dag_name": "p", "failed": [{"unique_id": "m"}, "m"]}, "failed[1]"),
        ({"dag_name": "p", "failed": [{"status": "error"}]}, "failed[0].unique_id"),
        ({"dag_name": "p", "failed": [{"unique_id": "m", "message": ["x"]}]}, "failed[0].message"),
        ({"dag_name": "p", "failed": [{"unique_id": "m", "try_number": "1"}]}, "failed[0].try_number"),
        ({"dag_name": "p", "failed": [{"unique_id": "m", "try_number": True}]}, "failed[0].try_number"),
    ],
)
def test_a_bad_payload_is_an_error_that_names_the_key(payload, key):
    with pytest.raises(handler.InvalidPayloadError, match=f"^{re.escape(key)}(: | must)"):
        handler.lambda_handler(payload, None)


@pytest.mark.parametrize(
    "topic", [None, "", "flights-alerts", TOPIC + ".fifo", TOPIC + "\n", TOPIC.replace("sns", "sqs")]
)
def test_a_topic_that_cannot_be_is_an_error_at_the_start(topic):
    with pytest.raises(RuntimeError, match=r"^TOPIC_ARN"):
        load(topic)


def test_a_topic_in_another_region_is_called_there():
    assert handler._sns.meta.region_name == "eu-west-1"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
# Any characters at all, lone surrogates included: json.loads makes them of "\ud800".
any_text = st.text(st.characters(exclude_categories=()), max_size=300)
nodes = st.fixed_dictionaries(
    {"unique_id": any_text},
    optional={"status": any_text, "message": any_text, "try_number": st.integers(0, 9) | st.none()},
)
likely_payloads = st.fixed_dictionaries(
    {"dag_name": any_text},
    optional={key: any_text | st.none() for key in ("run_id", "logical_date", "release_id", "log_url")}
    | {"failed": st.lists(nodes | json_values, max_size=5), "another": json_values},
)


@given(json_values | likely_payloads)
def test_any_payload_is_refused_by_name_or_makes_what_sns_accepts(payload):
    try:
        alert = handler._validated(payload)
    except handler.InvalidPayloadError as error:
        assert re.match(r"the payload|dag_name|run_id|logical_date|release_id|log_url|failed", str(error))  # noqa: PT017
        return
    subject, message = handler.subject(alert), handler.message(alert)
    assert subject.startswith("FAILED ")
    assert len(subject) < 100
    assert subject.isascii()
    assert subject.isprintable()
    assert 0 < len(message.encode("utf-8")) <= handler.MESSAGE_BYTES
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffe\uffff]", message)
    assert json.loads(json.dumps(message)) == message
