"""The stacks are made on the AWS stand-in and read back there; what it cannot make is read in the template."""

import ast
import json

import pytest

from tests.fixtures.stacks import INFRA, listed, load, properties


@pytest.fixture
def storage(stacks) -> dict[str, str]:
    return stacks.make("storage.yml")


def test_the_buckets_are_versioned_encrypted_private_and_tls_only(aws, storage):
    s3 = aws.client("s3")
    for name in ("DagsBucket", "LandingBucket"):
        encryption = s3.get_bucket_encryption(Bucket=storage[f"{name}Name"])["ServerSideEncryptionConfiguration"]
        assert encryption["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {
            "SSEAlgorithm": "aws:kms",
            "KMSMasterKeyID": storage["KeyArn"],
        }
        bucket = properties("storage.yml", name)
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
        (deny,) = properties("storage.yml", f"{name}Policy")["PolicyDocument"]["Statement"]
        assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
        assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
        assert len(deny["Resource"]) == 2


def test_what_holds_data_outlives_its_stack():
    for file in INFRA.glob("*.yml"):
        for name, resource in load(file.name)["Resources"].items():
            if resource["Type"] in ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup"):
                assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain", name


def test_the_function_publishes_to_its_topic_and_an_alert_that_fails_is_kept(aws, stacks, storage):
    function = f"notify-{stacks.name}"
    made = stacks.make("notification.yml", KeyArn=storage["KeyArn"], FunctionName=function, Email="people@example.com")
    shown = aws.client("lambda").get_function_configuration(FunctionName=function)
    assert shown["Environment"]["Variables"] == {"TOPIC_ARN": made["TopicArn"]}
    assert shown["Handler"] == "handler.lambda_handler"
    assert properties("notification.yml", "Function")["DeadLetterConfig"] == {
        "TargetArn": {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    }
    (publish,) = (each for each in stacks.policies(shown["Role"]) if each["Action"] == "sns:Publish")
    assert publish["Resource"] == made["TopicArn"]
    (group,) = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{function}")["logGroups"]
    assert group["retentionInDays"] == 90
    for alarm, metric in (("FailedAlarm", "Errors"), ("UndeliveredAlarm", "ApproximateNumberOfMessagesVisible")):
        shown = properties("notification.yml", alarm)
        assert (shown["MetricName"], shown["Threshold"], shown["AlarmActions"]) == (metric, 0, [{"Ref": "Topic"}])


def test_copy_reads_the_landing_bucket_and_nothing_else(stacks, storage):
    made = stacks.make(
        "warehouse.yml",
        KeyArn=storage["KeyArn"],
        LandingBucketName=storage["LandingBucketName"],
        Host="warehouse.example.com",
    )
    bucket = f"arn:aws:s3:::{storage['LandingBucketName']}"
    assert {
        (action, resource)
        for each in stacks.policies(made["CopyRoleArn"])
        for action in listed(each["Action"])
        for resource in listed(each["Resource"])
    } == {
        ("s3:GetObject", f"{bucket}/*"),
        ("s3:ListBucket", bucket),
        ("s3:GetBucketLocation", bucket),
        ("kms:Decrypt", storage["KeyArn"]),
    }


def test_the_secret_and_the_connection_are_what_the_pipeline_reads():
    made = properties("warehouse.yml", "DbtUserSecret")["GenerateSecretString"]
    secret = json.loads(made["SecretStringTemplate"]["Fn::Sub"])
    assert {*secret, made["GenerateStringKey"]} == {"username", "password"}
    text = properties("warehouse.yml", "Connection")["SecretString"]["Fn::Sub"]
    values = {"Host": "warehouse.example.com", "Port": "5439", "Database": "dev"}
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    assert json.loads(text) == {
        "conn_type": "redshift",
        "host": "warehouse.example.com",
        "port": 5439,
        "schema": "dev",
        "extra": {"sslmode": "verify-full"},
    }


def test_the_release_role_is_one_environments_and_reaches_only_what_a_release_touches(aws, stacks, storage):
    made = stacks.make(
        "github.yml",
        Repository="acme/data",
        GitHubEnvironment="prod",
        ProviderArn="arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
    )
    role = aws.client("iam").get_role(RoleName=made["RoleArn"].rpartition("/")[2])["Role"]
    trust = role["AssumeRolePolicyDocument"]
    (statement,) = (ast.literal_eval(trust) if isinstance(trust, str) else trust)["Statement"]
    assert statement["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": "repo:acme/data:environment:prod",
        }
    }
    bucket = f"arn:aws:s3:::{storage['DagsBucketName']}"
    account = "us-east-1:123456789012"
    assert {resource for each in stacks.policies(made["RoleArn"]) for resource in listed(each["Resource"])} == {
        bucket,
        f"{bucket}/dags/*",
        f"{bucket}/requirements.txt",
        f"{bucket}/startup.sh",
        f"{bucket}/deploy.lock",
        storage["KeyArn"],
        f"arn:aws:lambda:{account}:function:sns_notification",
        f"arn:aws:airflow:{account}:environment/flights",
    }


def test_the_execution_role_reads_two_kinds_of_secrets_and_calls_one_function(aws, stacks, storage):
    ec2 = aws.client("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    made = stacks.make(
        "environment.yml",
        VpcId=vpc["VpcId"],
        SubnetIds="subnet-12345678,subnet-87654321",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
    )
    statements = stacks.policies(made["ExecutionRoleArn"])
    prefix = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
    reads = [each["Resource"] for each in statements if each["Action"] == "secretsmanager:GetSecretValue"]
    assert reads == [[f"{prefix}flights/dbt_user-??????", f"{prefix}airflow/connections/*"]]
    calls = [each["Resource"] for each in statements if each["Action"] == "lambda:InvokeFunction"]
    assert calls == ["arn:aws:lambda:us-east-1:123456789012:function:sns_notification"]
    # What AWS cannot narrow to a resource, and nothing else, has the wildcard.
    everywhere = {action for each in statements if each["Resource"] == "*" for action in listed(each["Action"])}
    assert everywhere == {"logs:DescribeLogGroups", "s3:GetAccountPublicAccessBlock", "cloudwatch:PutMetricData"}


def test_the_environment_is_what_the_dags_expect():
    environment = properties("environment.yml", "Environment")
    root = INFRA.parent
    assert (root / environment["RequirementsS3Path"]).is_file()
    assert (root / environment["StartupScriptS3Path"]).is_file()
    assert environment["DagS3Path"] == "dags"
    assert f"apache-airflow=={environment['AirflowVersion']}" in (root / "pyproject.toml").read_text()
    kwargs = json.loads(environment["AirflowConfigurationOptions"]["secrets.backend_kwargs"])
    assert kwargs["connections_prefix"] == "airflow/connections"
