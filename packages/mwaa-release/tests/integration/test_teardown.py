"""`teardown` asks for confirmation and removes all stacks in order. After an interruption the next call continues."""

import json

import pytest
from botocore.exceptions import ClientError

from mwaa_local.testing.stacks import properties
from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.teardown import describe, find_stacks, teardown


@pytest.fixture
def environment(aws, stacks):
    """The stacks of infra/README.md."""
    storage = stacks.make("storage.yml")
    # The stand-in stores a stack's key policy as an object that it cannot parse later.
    policy = json.dumps(properties("storage.yml", "Key")["KeyPolicy"])
    aws.client("kms").put_key_policy(KeyId=storage["KeyArn"], PolicyName="default", Policy=policy)
    function = f"notify-{stacks.name}"
    stacks.make("notification.yml", KeyArn=storage["KeyArn"], FunctionName=function)
    stacks.make("credentials.yml", KeyArn=storage["KeyArn"], Host="warehouse.example.com")
    return storage


@pytest.fixture
def filled_bucket(aws, environment) -> Bucket:
    """The environment's DAGs bucket with object versions and a delete marker."""
    bucket = Bucket(environment["DagsBucketName"], aws.client("s3"))
    # The stand-in's CloudFormation ignores a bucket's versioning.
    bucket.s3.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"1", b"2"):
        bucket.s3.put_object(Bucket=bucket.name, Key="dags/x.py", Body=body)
    bucket.s3.delete_object(Bucket=bucket.name, Key="dags/x.py")
    bucket.s3.put_object(Bucket=bucket.name, Key="requirements.txt", Body=b"r")
    return bucket


def exists(s3, bucket: str) -> bool:
    return bucket in {entry["Name"] for entry in s3.list_buckets()["Buckets"]}


def test_teardown_removes_everything_and_schedules_the_key_deletion(aws, stacks, environment, filled_bucket):
    actual = find_stacks(aws.client("cloudformation"), stacks.name)
    assert [stack.name.removeprefix(f"{stacks.name}-") for stack in actual] == [
        "credentials",
        "notification",
        "storage",
    ]
    messages = []
    teardown(aws.client, actual, lambda what, *_: messages.append(what))
    for name in ("DagsBucketName", "LandingBucketName"):
        assert not exists(filled_bucket.s3, environment[name])
    with pytest.raises(ClientError, match="ResourceNotFound"):
        aws.client("lambda").get_function(FunctionName=f"notify-{stacks.name}")
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/notify-{stacks.name}")
    assert groups["logGroups"] == []
    key = aws.client("kms").describe_key(KeyId=environment["KeyArn"])["KeyMetadata"]
    assert key["KeyState"] == "PendingDeletion"
    assert f"emptying s3://{filled_bucket.name}" in messages
    with pytest.raises(SetupError, match=rf"there is no stack {stacks.name}-network"):
        find_stacks(aws.client("cloudformation"), stacks.name)


def test_teardown_removes_the_stack_of_ecs_with_images_and_objects(aws, stacks):
    storage = stacks.make("storage.yml")
    role = f"{stacks.name}-execution"
    aws.client("iam").create_role(RoleName=role, AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}')
    ec2 = aws.client("ec2")
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"]][:2]
    parameters = {"KeyArn": storage["KeyArn"], "DagsBucketName": storage["DagsBucketName"], "ExecutionRoleName": role}
    stacks.make("ecs.yml", VpcId=ec2.describe_vpcs()["Vpcs"][0]["VpcId"], SubnetIds=",".join(subnets), **parameters)
    ecr, s3, repository = aws.client("ecr"), aws.client("s3"), f"{stacks.name}-dbt"
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": {"digest": "sha256:1"}, "layers": []})
    ecr.put_image(repositoryName=repository, imageManifest=manifest, imageTag="one")
    runs = next(bucket["Name"] for bucket in s3.list_buckets()["Buckets"] if f"{repository}-runs" in bucket["Name"])
    s3.put_object(Bucket=runs, Key="shop/1/job.json", Body=b"{}")
    actual = find_stacks(aws.client("cloudformation"), stacks.name)[:1]
    assert [stack.name for stack in actual] == [f"{stacks.name}-ecs"]
    lines = describe(actual)
    assert f"image repository {repository}: every image in it" in lines
    assert f"log group /ecs/{repository}" in lines
    teardown(aws.client, actual)
    assert not exists(s3, runs)
    with pytest.raises(ecr.exceptions.RepositoryNotFoundException):
        ecr.describe_repositories(repositoryNames=[repository])
    groups = aws.client("logs").describe_log_groups(logGroupNamePrefix=f"/ecs/{repository}")
    assert groups["logGroups"] == []


def test_log_group_that_is_created_again_during_teardown_is_removed(aws, stacks, environment, filled_bucket):
    group = f"/aws/lambda/notify-{stacks.name}"
    logs = aws.client("logs")

    def writing(service: str):
        client = aws.client(service)

        def write(**_more):
            if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
                logs.create_log_group(logGroupName=group)

        if service == "cloudformation":
            client.meta.events.register("before-call.cloudformation.DeleteStack", write)
        return client

    teardown(writing, find_stacks(aws.client("cloudformation"), f"{stacks.name}")[1:2])
    assert logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"] == []


def test_interrupted_teardown_is_finished_by_the_next_call(aws, stacks, environment, filled_bucket):
    def broken(service: str):
        client = aws.client(service)
        if service == "kms":
            client.meta.events.register("before-call.kms", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
        return client

    with pytest.raises(KeyboardInterrupt):
        teardown(broken, find_stacks(aws.client("cloudformation"), stacks.name))
    assert not exists(filled_bucket.s3, filled_bucket.name)
    remaining = find_stacks(aws.client("cloudformation"), stacks.name)
    assert [stack.name for stack in remaining] == [f"{stacks.name}-storage"]
    teardown(aws.client, remaining)
    key = aws.client("kms").describe_key(KeyId=environment["KeyArn"])["KeyMetadata"]
    assert key["KeyState"] == "PendingDeletion"


def test_stack_that_cannot_be_deleted_is_an_error_that_names_it(aws, stacks, environment):
    def denied(service: str):
        client = aws.client(service)

        def refuse(**_more):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DeleteStack")

        if service == "cloudformation":
            client.meta.events.register("before-call.cloudformation.DeleteStack", refuse)
        return client

    with pytest.raises(DeployError, match=rf"deleting the stack {stacks.name}-credentials: access denied"):
        teardown(denied, find_stacks(aws.client("cloudformation"), stacks.name))


def test_teardown_lists_the_resources_and_asks_for_the_name(deploy, aws, stacks, environment, filled_bucket):
    code, text = deploy("teardown", stacks.name, input="yes\n")
    assert code == 2
    assert "nothing was removed" in text
    output = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    assert f"bucket {filled_bucket.name}: every object and every version in it" in output
    assert output[-1].startswith(f"stack {stacks.name}-storage: ")
    assert exists(filled_bucket.s3, filled_bucket.name)
    code, text = deploy("teardown", stacks.name, "--account", "999999999999", "--yes")
    assert (code, exists(filled_bucket.s3, filled_bucket.name)) == (2, True)
    code, text = deploy("teardown", stacks.name, input=f"{stacks.name}\n")
    assert code == 0, text
    assert f"Removed {stacks.name}" in text
    assert not exists(filled_bucket.s3, filled_bucket.name)
    assert deploy("teardown", stacks.name, "--yes")[0] == 2
