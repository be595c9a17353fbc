"""The resources that the AWS stand-in starts with, and the delivery of an alert."""

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
    answer = aws.client("lambda").invoke(FunctionName=FUNCTION, Payload=json.dumps(payload))
    return answer.get("FunctionError"), json.loads(answer["Payload"].read())


def secret(aws, name):
    return json.loads(aws.client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])


def test_an_alert_arrives_as_it_was_published(seeded):
    failed = [
        {"unique_id": "model.flights.fct_flights", "status": "error", "message": "Ünexpected\x1b[0m", "try_number": 2}
    ]
    error, result = alert(seeded, {"dag_name": "flights_pipeline", "failed": failed})
    assert not error, result
    assert result["message_id"]
    (arrived,) = read_alerts(seeded.settings)
    assert arrived["subject"] == "FAILED flights_pipeline: model.flights.fct_flights"
    assert "model.flights.fct_flights (error, try 2)\n  Ünexpected" in arrived["message"]
    assert read_alerts(seeded.settings) == []


def test_no_alert_is_lost_and_they_come_in_order(seeded):
    queue, topic = seeded.client("sqs"), seeded.client("sns")
    arn = topic.create_topic(Name="local-alerts")["TopicArn"]
    for number in range(25):
        topic.publish(TopicArn=arn, Subject=f"FAILED {number}", Message="m")
    alerts = read_alerts(seeded.settings)
    assert [a["subject"] for a in alerts] == [f"FAILED {number}" for number in range(25)]
    url = queue.get_queue_url(QueueName="local-alerts-inbox")["QueueUrl"]
    left = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert left["ApproximateNumberOfMessages"] == left["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_the_largest_alert_arrives(seeded):
    nodes = [{"unique_id": f"model.flights.m{n}", "message": '"é\\' * 100} for n in range(5000)]
    error, result = alert(seeded, {"dag_name": "flights_pipeline", "failed": nodes})
    assert not error, result
    (arrived,) = read_alerts(seeded.settings)
    assert "5000 failed:" in arrived["message"]
    # SNS counts the texts of all protocols together, each as it is quoted in JSON.
    assert arrived["message"].count("- model.flights.m") > 50
    assert "... and " in arrived["message"]


def test_a_bad_payload_is_the_invokers_error_and_no_alert(seeded):
    error, result = alert(seeded, {"run_id": "1"})
    assert error == "Unhandled"
    assert result["errorType"] == "InvalidPayloadError"
    assert result["errorMessage"].startswith("dag_name:")
    assert read_alerts(seeded.settings) == []


def test_a_broken_function_fails_until_it_is_seeded_again(seeded):
    break_lambda(seeded.settings)
    error, result = alert(seeded, {"dag_name": "flights_pipeline"})
    assert error == "Unhandled"
    assert "notification-Role/sns_notification is not authorized to perform: sns:Publish" in result["errorMessage"]
    assert read_alerts(seeded.settings) == []
    seed(seeded.settings, PASSWORDS, "127.0.0.1", 5439)
    assert not alert(seeded, {"dag_name": "flights_pipeline"})[0]
    assert len(read_alerts(seeded.settings)) == 1


def test_seeding_again_changes_what_changed_and_doubles_nothing(seeded):
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


def test_the_bucket_for_mwaa_is_versioned(seeded):
    assert seeded.client("s3").get_bucket_versioning(Bucket="local-mwaa")["Status"] == "Enabled"
    assert "Status" not in seeded.client("s3").get_bucket_versioning(Bucket="local-landing")
