"""The initial resources of the AWS stand-in, and the delivery of alerts."""

import json
from types import SimpleNamespace

import pytest

from mwaa_local.aws.seed import FUNCTION, break_lambda, read_alerts, seed
from mwaa_local.testing.aws import running_aws

PASSWORDS = SimpleNamespace(dbt_user="Aa1secret")


@pytest.fixture(scope="module")
def seeded(tmp_path_factory):
    """A separate stand-in, because these tests damage its resources."""
    with running_aws(tmp_path_factory.mktemp("seeded")) as aws:
        seed(aws.settings, PASSWORDS, "127.0.0.1", 5439)
        yield aws


def alert(aws, payload):
    response = aws.client("lambda").invoke(FunctionName=FUNCTION, Payload=json.dumps(payload))
    return response.get("FunctionError"), json.loads(response["Payload"].read())


def secret(aws, name):
    return json.loads(aws.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])


def test_alert_is_delivered_as_published(seeded):
    failed = [
        {"unique_id": "model.flights.fct_flights", "status": "error", "message": "Ünexpected\x1b[0m", "try_number": 2}
    ]
    error, result = alert(seeded, {"dag_name": "flights_pipeline", "failed": failed})
    assert not error, result
    assert result["message_id"]
    (delivered,) = read_alerts(seeded.settings)
    assert delivered["subject"] == "FAILED flights_pipeline: model.flights.fct_flights"
    assert "model.flights.fct_flights (error, try 2)\n  Ünexpected" in delivered["message"]
    assert read_alerts(seeded.settings) == []


def test_all_alerts_are_delivered_in_order(seeded):
    queue, topic = seeded.client("sqs"), seeded.client("sns")
    arn = topic.create_topic(Name="local-alerts")["TopicArn"]
    for number in range(25):
        topic.publish(TopicArn=arn, Subject=f"FAILED {number}", Message="m")
    alerts = read_alerts(seeded.settings)
    assert [a["subject"] for a in alerts] == [f"FAILED {number}" for number in range(25)]
    url = queue.get_queue_url(QueueName="local-alerts-inbox")["QueueUrl"]
    queue_attributes = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (
        queue_attributes["ApproximateNumberOfMessages"]
        == queue_attributes["ApproximateNumberOfMessagesNotVisible"]
        == "0"
    )


def test_largest_alert_is_delivered_within_the_size_limit(seeded):
    nodes = [{"unique_id": f"model.flights.m{n}", "message": '"é\\' * 100} for n in range(5000)]
    error, result = alert(seeded, {"dag_name": "flights_pipeline", "failed": nodes})
    assert not error, result
    (delivered,) = read_alerts(seeded.settings)
    assert "5000 failed:" in delivered["message"]
    # The size limit of SNS applies to the JSON-quoted texts of all protocols together.
    assert delivered["message"].count("- model.flights.m") > 50
    assert "... and " in delivered["message"]


def test_invalid_payload_is_an_error_and_sends_no_alert(seeded):
    error, result = alert(seeded, {"run_id": "1"})
    assert error == "Unhandled"
    assert result["errorType"] == "InvalidPayloadError"
    assert result["errorMessage"].startswith("dag_name:")
    assert read_alerts(seeded.settings) == []


def test_broken_function_fails_until_it_is_seeded_again(seeded):
    break_lambda(seeded.settings)
    error, result = alert(seeded, {"dag_name": "flights_pipeline"})
    assert error == "Unhandled"
    assert "notification-Role/sns_notification is not authorized to perform: sns:Publish" in result["errorMessage"]
    assert read_alerts(seeded.settings) == []
    seed(seeded.settings, PASSWORDS, "127.0.0.1", 5439)
    assert not alert(seeded, {"dag_name": "flights_pipeline"})[0]
    assert len(read_alerts(seeded.settings)) == 1


def test_seeding_again_updates_resources_without_duplicates(seeded):
    first = seed(seeded.settings, PASSWORDS, "127.0.0.1", 5439)
    second = seed(seeded.settings, SimpleNamespace(dbt_user="Aa1another"), "warehouse.example.com", 5555)
    assert first == second
    assert secret(seeded, "flights/dbt_user") == {"username": "dbt_user", "password": "Aa1another"}
    connection = secret(seeded, "airflow/connections/flights_redshift")
    assert (connection["host"], connection["port"]) == ("warehouse.example.com", 5555)
    assert connection["extra"] == {"sslmode": "disable"}
    assert "password" not in connection
    subscriptions = seeded.client("sns").list_subscriptions_by_topic(TopicArn=first.topic_arn)["Subscriptions"]
    assert len(subscriptions) == 1


def test_mwaa_bucket_is_versioned(seeded):
    assert seeded.client("s3").get_bucket_versioning(Bucket="local-mwaa")["Status"] == "Enabled"
    assert "Status" not in seeded.client("s3").get_bucket_versioning(Bucket="local-landing")
