"""The stacks are created in the AWS stand-in and read back. Unsupported resources are read from the template."""

import ast
import json
import re

import pytest

from mwaa_local.mwaa.image import LOCK
from mwaa_local.templates import INFRA, load
from mwaa_local.testing.stacks import NOT_MADE, Stacks, listed, properties
from mwaa_release.contracts import contract
from mwaa_release.freshness import CONNECTIONS


@pytest.fixture
def storage(stacks) -> dict[str, str]:
    return stacks.make("storage.yml")


def test_buckets_are_versioned_encrypted_private_and_tls_only(aws, storage):
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


def test_buckets_keys_and_logs_are_retained_when_their_stack_is_deleted():
    for file in INFRA.glob("[!.]*.yml"):
        for name, resource in load(file.name)["Resources"].items():
            if resource["Type"] in ("AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Logs::LogGroup"):
                assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain", name


def test_alert_function_publishes_to_its_topic_and_has_an_alarm(aws, stacks, storage):
    function = f"notify-{stacks.name}"
    outputs = stacks.make(
        "notification.yml", KeyArn=storage["KeyArn"], FunctionName=function, Email="people@example.com"
    )
    function_configuration = aws.client("lambda").get_function_configuration(FunctionName=function)
    assert function_configuration["Environment"]["Variables"] == {"TOPIC_ARN": outputs["TopicArn"]}
    assert function_configuration["Handler"] == "handler.lambda_handler"
    (publish,) = (
        statement
        for statement in stacks.policies(function_configuration["Role"])
        if statement["Action"] == "sns:Publish"
    )
    assert publish["Resource"] == outputs["TopicArn"]
    (group,) = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{function}")["logGroups"]
    assert group["retentionInDays"] == 90
    alarm = properties("notification.yml", "FailedAlarm")
    assert (alarm["MetricName"], alarm["Threshold"], alarm["AlarmActions"]) == ("Errors", 0, [{"Ref": "Topic"}])


def permissions(statements: list[dict]) -> set[tuple[str, str]]:
    return {
        (action, resource)
        for statement in statements
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def trust_of(aws, role_arn: str) -> list[dict]:
    document = aws.client("iam").get_role(RoleName=role_arn.rpartition("/")[2])["Role"]["AssumeRolePolicyDocument"]
    # The stand-in stores a stack's role policy as a Python literal, and AWS::NoValue in a list as None.
    statements = (ast.literal_eval(document) if isinstance(document, str) else document)["Statement"]
    return [statement for statement in statements if statement]


def test_copy_role_can_read_only_the_landing_bucket(stacks, storage):
    bucket = f"arn:aws:s3:::{storage['LandingBucketName']}"
    assert permissions(stacks.policies(storage["CopyRoleArn"])) == {
        ("s3:GetObject", f"{bucket}/*"),
        ("s3:ListBucket", bucket),
        ("s3:GetBucketLocation", bucket),
        ("kms:Decrypt", storage["KeyArn"]),
    }


def test_only_a_named_warehouse_role_can_assume_the_copy_role(aws, stacks, storage):
    assert len(trust_of(aws, storage["CopyRoleArn"])) == 1
    other = "arn:aws:iam::210987654321:role/warehouse"
    chained = Stacks(aws).make("storage.yml", WarehouseRoleArn=other)
    assert {"AWS": other} in [statement["Principal"] for statement in trust_of(aws, chained["CopyRoleArn"])]


def test_endpoints_cover_all_services_of_mwaa_and_the_pipelines(aws, stacks):
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{number}.0/24", AvailabilityZone=f"us-east-1{zone}")["Subnet"]
        for number, zone in enumerate("ab")
    ]
    table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    outputs = stacks.make(
        "network.yml",
        VpcId=vpc,
        VpcCidr="10.9.0.0/16",
        SubnetIds=",".join(statement["SubnetId"] for statement in subnets),
        RouteTableIds=table,
        LoginService="redshift-serverless",
    )
    endpoints = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]
    services = {statement["ServiceName"].removeprefix("com.amazonaws.us-east-1."): statement for statement in endpoints}
    assert set(services) == {
        *("s3", "airflow.api", "airflow.env", "logs", "monitoring", "sqs", "kms"),
        *("secretsmanager", "lambda", "sts", "redshift-serverless"),
    }
    assert services["s3"]["VpcEndpointType"] == "Gateway"
    assert services["s3"]["RouteTableIds"] == [table]
    for name, endpoint in services.items():
        account_statement, *others = ast.literal_eval(endpoint["PolicyDocument"])["Statement"]
        assert account_statement["Condition"] == {"StringEquals": {"aws:PrincipalAccount": "123456789012"}}, name
        # MWAA's container image is in a bucket that AWS owns.
        layers = ["arn:aws:s3:::prod-us-east-1-starport-layer-bucket/*"] if name == "s3" else []
        assert [statement["Resource"] for statement in others] == layers
    (group,) = ec2.describe_security_groups(GroupIds=[outputs["EndpointsSecurityGroupId"]])["SecurityGroups"]
    (rule,) = group["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"], rule["IpRanges"][0]["CidrIp"]) == (443, 443, "10.9.0.0/16")


def test_optional_warehouse_is_private_encrypted_and_has_a_final_snapshot():
    namespace, workgroup = (properties("redshift.yml", name) for name in ("Namespace", "Workgroup"))
    assert namespace["ManageAdminPassword"] is True
    assert {"KmsKeyId", "AdminPasswordSecretKmsKeyId", "FinalSnapshotName"} <= set(namespace)
    assert (workgroup["PubliclyAccessible"], workgroup["EnhancedVpcRouting"]) == (False, True)
    assert {"ParameterKey": "require_ssl", "ParameterValue": "true"} in workgroup["ConfigParameters"]


def test_password_of_the_dbt_user_is_rotated_by_a_hosted_function():
    rotation = properties("rotation.yml", "Rotation")
    assert rotation["HostedRotationLambda"]["RotationType"] == "RedshiftSingleUser"
    assert rotation["RotateImmediatelyOnUpdate"] is False
    # The function needs these keys in the secret.
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
    secret = substituted(properties("credentials.yml", "DbtUserSecret")["GenerateSecretString"]["SecretStringTemplate"])
    assert json.loads(secret) == {
        "username": "dbt_user",
        "engine": "redshift",
        "host": "warehouse.example.com",
        "port": 5439,
        "dbname": "dev",
    }


def substituted(template: dict) -> str:
    text = template["Fn::Sub"]
    values = {"Host": "warehouse.example.com", "Port": "5439", "Database": "dev", "DbtUser": "dbt_user"}
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text


def test_secret_and_connection_have_the_keys_that_the_pipeline_reads():
    outputs = properties("credentials.yml", "DbtUserSecret")["GenerateSecretString"]
    assert {*json.loads(substituted(outputs["SecretStringTemplate"])), outputs["GenerateStringKey"]} >= {
        "username",
        "password",
    }
    assert json.loads(substituted(properties("credentials.yml", "Connection")["SecretString"])) == {
        "conn_type": "redshift",
        "host": "warehouse.example.com",
        "port": 5439,
        "schema": "dev",
        "extra": {"sslmode": "verify-full"},
    }


def subject(form: str) -> str:
    """Return an OIDC subject of GitHub in one of the two forms of the contract."""
    names = {"owner": "acme", "name": "data", "owner_id": "1234", "repository_id": "5678"}
    return contract("github_oidc")[form].format(**names, environment="prod")


def trusted_subjects(statement: dict) -> list[str]:
    subjects = statement["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    # moto stores AWS::NoValue in a list as None.
    return [subject for subject in subjects if subject is not None]


@pytest.mark.parametrize(
    ("ids", "subjects"),
    [
        ({}, [subject("subject")]),
        ({"OwnerId": "1234", "RepositoryId": "5678"}, [subject("subject"), subject("subject_with_ids")]),
    ],
)
def test_release_role_trusts_one_environment_of_one_repository(aws, stacks, storage, ids, subjects):
    outputs = stacks.make(
        "github.yml",
        Repository="acme/data",
        GitHubEnvironment="prod",
        ProviderArn="arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
        **ids,
    )
    (statement,) = trust_of(aws, outputs["RoleArn"])
    (operator, conditions), *others = statement["Condition"].items()
    assert (operator, others) == ("StringEquals", [])
    assert conditions["token.actions.githubusercontent.com:aud"] == "sts.amazonaws.com"
    assert trusted_subjects(statement) == subjects


def test_release_role_can_access_only_the_resources_of_a_release(stacks, storage):
    outputs = stacks.make(
        "github.yml",
        Repository="acme/data",
        GitHubEnvironment="prod",
        ProviderArn="arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
    )
    bucket = f"arn:aws:s3:::{storage['DagsBucketName']}"
    account = "us-east-1:123456789012"
    assert {
        resource for statement in stacks.policies(outputs["RoleArn"]) for resource in listed(statement["Resource"])
    } == {
        bucket,
        f"{bucket}/dags/*",
        f"{bucket}/requirements.txt",
        f"{bucket}/startup.sh",
        f"{bucket}/mwaa_release.lock",
        f"{bucket}/wheels/*",
        storage["KeyArn"],
        f"arn:aws:lambda:{account}:function:sns_notification",
        f"arn:aws:lambda:{account}:function:overdue_runs",
        f"arn:aws:airflow:{account}:environment/flights",
    }


def test_dev_has_a_role_for_smoke_tests_and_one_for_the_warehouse(aws, stacks, storage):
    outputs = stacks.make(
        "github.yml",
        Repository="acme/data",
        GitHubEnvironment="dev",
        ProviderArn="arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
        Freshness="true",
    )
    account = "us-east-1:123456789012"
    granted = permissions(stacks.policies(outputs["RoleArn"]))
    assert ("airflow:InvokeRestApi", f"arn:aws:airflow:{account}:role/flights/User") in granted
    assert not any(action.startswith("secretsmanager:") for action, _ in granted)
    secret = f"arn:aws:secretsmanager:{account}:secret:"
    assert permissions(stacks.policies(outputs["WarehouseRoleArn"])) == {
        ("secretsmanager:GetSecretValue", f"{secret}flights/dbt_user-??????"),
        ("secretsmanager:GetSecretValue", f"{secret}airflow/connections/flights_redshift-??????"),
        ("kms:Decrypt", storage["KeyArn"]),
    }
    (statement,) = trust_of(aws, outputs["WarehouseRoleArn"])
    assert trusted_subjects(statement) == ["repo:acme/data:environment:dev-warehouse"]


def test_unsupported_resource_types_are_listed():
    types = {resource["Type"] for file in INFRA.glob("[!.]*.yml") for resource in load(file.name)["Resources"].values()}
    assert types >= NOT_MADE
    # These two stacks have no supported resource that is worth reading back.
    assert all(
        resource["Type"] in NOT_MADE or resource["Type"] == "AWS::EC2::SecurityGroup"
        for file in ("redshift.yml", "rotation.yml")
        for resource in load(file)["Resources"].values()
    )


def test_execution_role_can_read_its_secrets_and_call_one_function(aws, stacks, storage):
    ec2 = aws.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.8.0.0/16")["Vpc"]
    outputs = stacks.make(
        "environment.yml",
        VpcId=vpc["VpcId"],
        SubnetIds="subnet-12345678,subnet-87654321",
        DagsBucketName=storage["DagsBucketName"],
        KeyArn=storage["KeyArn"],
    )
    statements = stacks.policies(outputs["ExecutionRoleArn"])
    prefix = "arn:aws:secretsmanager:us-east-1:123456789012:secret:"
    reads = [
        statement["Resource"] for statement in statements if statement["Action"] == "secretsmanager:GetSecretValue"
    ]
    assert reads == [[f"{prefix}flights/dbt_user-??????", f"{prefix}airflow/connections/*"]]
    calls = [statement["Resource"] for statement in statements if statement["Action"] == "lambda:InvokeFunction"]
    assert calls == ["arn:aws:lambda:us-east-1:123456789012:function:sns_notification"]
    # AWS does not support resource-level permissions for these actions.
    everywhere = {
        action for statement in statements if statement["Resource"] == "*" for action in listed(statement["Action"])
    }
    assert everywhere == {"logs:DescribeLogGroups", "s3:GetAccountPublicAccessBlock", "cloudwatch:PutMetricData"}


def test_environment_has_the_files_and_options_that_the_dags_expect():
    environment = properties("environment.yml", "Environment")
    root = INFRA.parent
    assert (root / environment["RequirementsS3Path"]).is_file()
    assert (root / environment["StartupScriptS3Path"]).is_file()
    assert environment["DagS3Path"] == "dags"
    assert f"apache-airflow=={environment['AirflowVersion']}" in LOCK.read_text()
    # MWAA accepts only one worker for mw1.micro.
    assert environment["MaxWorkers"] == {"Fn::If": ["IsMicro", 1, {"Ref": "MaxWorkers"}]}
    assert load("environment.yml")["Conditions"]["IsMicro"] == {"Fn::Equals": [{"Ref": "Class"}, "mw1.micro"]}
    kwargs = json.loads(environment["AirflowConfigurationOptions"]["secrets.backend_kwargs"])
    assert kwargs["connections_prefix"] == CONNECTIONS
    # SecretsManagerBackend compares in this way.
    names = ("flights_redshift", "shop_warehouse", "dwh", "aws_default")
    pattern = kwargs["connections_lookup_pattern"]
    assert [name for name in names if re.match(pattern, name, re.IGNORECASE)] == [
        "flights_redshift",
        "shop_warehouse",
        "dwh",
    ]
