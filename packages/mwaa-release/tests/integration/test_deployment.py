"""The stacks of infra/: network rules, log expiry, and the permissions and credentials of deployers."""

import fnmatch
import json
import re
from pathlib import Path
from typing import Any

import cfnlint
import pytest

from mwaa_local.templates import INFRA, Template, load
from mwaa_local.testing.stacks import listed, properties
from mwaa_pipelines import ecs_task
from mwaa_pipelines.runner import process
from mwaa_release import mwaa_update, smoke


@pytest.mark.parametrize(
    ("file", "parameters"),
    [
        (
            "environment.yml",
            {"EndpointsSecurityGroupId": "sg-1", "S3PrefixListId": "pl-1", "WarehouseCidr": "10.9.0.9/32"},
        ),
        ("redshift.yml", {"S3PrefixListId": "pl-1"}),
        (
            "ecs.yml",
            {"EndpointsSecurityGroupId": "sg-1", "S3PrefixListId": "pl-1", "WarehouseCidr": "10.9.0.9/32"},
        ),
    ],
)
def test_private_subnets_have_no_rule_for_the_internet(file: str, parameters: dict[str, str]) -> None:
    def rules(values: dict[str, str]) -> str:
        template = Template(file, {"VpcId": "vpc-1", "VpcCidr": "10.9.0.0/16", "SecurityGroup": "sg-2", **values})
        groups = [
            resource["Properties"]
            for resource in template.content["Resources"].values()
            if resource["Type"].startswith("AWS::EC2::SecurityGroup") and template.holds(resource.get("Condition"))
        ]
        return json.dumps(template.evaluate(groups))

    assert "0.0.0.0/0" not in rules(parameters)
    assert "pl-1" in rules(parameters)
    assert "0.0.0.0/0" in rules({})


@pytest.mark.parametrize(
    ("parameters", "services"),
    [
        ({}, []),
        ({"EndpointsSecurityGroupId": "sg-1", "CreateEndpoints": "false"}, []),
        ({"EndpointsSecurityGroupId": "sg-1"}, ["ecr.api", "ecr.dkr", "ecs", "ssm"]),
    ],
)
def test_ecs_has_the_endpoints_that_its_tasks_and_airflow_call(parameters: dict[str, str], services: list[str]) -> None:
    template = Template("ecs.yml", {"AWS::Region": "r", **parameters})
    names = [
        template.evaluate(resource["Properties"]["ServiceName"])
        for resource in template.content["Resources"].values()
        if resource["Type"] == "AWS::EC2::VPCEndpoint" and template.holds(resource.get("Condition"))
    ]
    assert sorted(names) == [f"com.amazonaws.r.{service}" for service in services]


def test_container_of_ecs_has_the_time_to_cancel_queries_and_airflow_waits_for_it() -> None:
    (container,) = properties("ecs.yml", "TaskDefinition")["ContainerDefinitions"]
    assert process.STOP_SECONDS < container["StopTimeout"] < ecs_task.STOP_SECONDS
    # Otherwise a task that is stopped while it starts would ignore SIGTERM.
    assert container["LinuxParameters"]["InitProcessEnabled"] is True


def test_container_of_ecs_can_write_to_its_scratch_folder_only_and_images_are_scanned() -> None:
    (container,) = properties("ecs.yml", "TaskDefinition")["ContainerDefinitions"]
    assert container["ReadonlyRootFilesystem"] is True
    assert [(mount["ContainerPath"], mount["ReadOnly"]) for mount in container["MountPoints"]] == [("/scratch", False)]
    repository = properties("ecs.yml", "Repository")
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert repository["ImageTagMutability"] == "IMMUTABLE"
    (rule,) = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert (rule["selection"]["countNumber"], rule["action"]) == (10, {"type": "expire"})


def test_components_reach_each_other_on_two_ports_only() -> None:
    resources = load("environment.yml")["Resources"]
    kinds = ("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
    mwaa_group = {"Ref": "SecurityGroup"}
    rules = [
        resource
        for resource in resources.values()
        if resource["Type"] in kinds
        and mwaa_group in (resource["Properties"].get(f"{side}SecurityGroupId") for side in ("Source", "Destination"))
    ]
    ports = {(rule["Type"], rule["Properties"]["FromPort"], rule["Properties"]["ToPort"]) for rule in rules}
    assert ports == {(kind, port, port) for kind in kinds for port in (443, 5432)}
    assert {rule["Properties"]["IpProtocol"] for rule in rules} == {"tcp"}


def test_mwaa_logs_expire() -> None:
    resources = load("environment.yml")["Resources"]
    groups = {name: resource for name, resource in resources.items() if resource["Type"] == "AWS::Logs::LogGroup"}
    # The names that MWAA uses. MWAA creates a missing log group without an expiry.
    kinds = ("DAGProcessing", "Scheduler", "Task", "WebServer", "Worker")
    names = {resource["Properties"]["LogGroupName"]["Fn::Sub"] for resource in groups.values()}
    assert names == {f"airflow-${{Name}}-{kind}" for kind in kinds}
    assert set(groups) <= set(resources["Environment"]["DependsOn"])
    retention = {json.dumps(resource["Properties"]["RetentionInDays"]) for resource in groups.values()}
    assert retention == {'{"Ref": "LogRetentionDays"}'}


def test_job_credentials_outlast_the_longest_command() -> None:
    session = properties("github.yml", "Role").get("MaxSessionDuration", 3600)
    assert max(smoke.TOTAL_SECONDS, mwaa_update.TIMEOUT_SECONDS) <= session - 300


def test_documented_route_tables_cover_all_subnets() -> None:
    readme = (INFRA / "README.md").read_text()
    (step,) = [line for line in readme.splitlines() if "stack network Name=" in line]
    assert "RouteTableIds=$ROUTES" in step
    assert 'ROUTES=$(aws ec2 describe-route-tables --filters "Name=vpc-id,Values=$VPC"' in readme


# Permissions of AWS's own handlers for features that no stack uses.
UNUSED = [
    *("s3tables:*", "s3files:*", "elasticfilesystem:*", "firehose:*", "vpc-lattice:*", "vpce:*", "redshift:*"),
    # Attached policies, permissions boundaries and layers.
    *("iam:*RolePolicy", "iam:CreatePolicy", "iam:*RolePermissionsBoundary", "lambda:GetLayerVersion"),
    *("lambda:GetCodeSigningConfig", "lambda:PassCapacityProvider", "ecs:PutAccountSetting*"),
    # Policies of groups and users.
    *("iam:*GroupPolicy", "iam:*UserPolicy"),
    # Log groups with resource policies or deliveries.
    *("logs:CreateLogDelivery", "logs:*ResourcePolic*"),
]
NEEDED = {"iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:GetRolePolicy"}


def handler_permissions() -> dict[str, list[str]]:
    """Return the permissions that CloudFormation needs for each resource type, from AWS's schemas in cfn-lint."""
    schemas = (Path(cfnlint.__file__).parent / "data" / "schemas" / "resources").glob("*.json")
    files = [*(path.name for path in INFRA.glob("[!.]*.yml")), "ecs.yml"]
    types = {resource["Type"] for file in files for resource in load(file)["Resources"].values()}
    permissions = {}
    for path in schemas:
        schema = json.loads(path.read_text())
        if schema.get("typeName") in types - {"AWS::IAM::ManagedPolicy"}:
            handlers = schema["handlers"].values()
            permissions[schema["typeName"]] = [name for handler in handlers for name in handler["permissions"]]
    return permissions


def test_deployer_can_create_every_resource_of_the_stacks() -> None:
    policies = [properties(file, "Policy")["PolicyDocument"] for file in ("deployer.yml", "ecs-deployer.yml")]
    statements = [statement for policy in policies for statement in policy["Statement"]]
    allowed = [action.lower() for statement in statements for action in listed(statement["Action"])]

    def matches(permission: str, patterns: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(permission.lower(), pattern.lower()) for pattern in patterns)

    permissions = handler_permissions()
    assert len(permissions) > 20
    missing = {
        (kind, permission)
        for kind, names in permissions.items()
        for permission in names
        if (permission in NEEDED or not matches(permission, UNUSED)) and not matches(permission, allowed)
    }
    assert missing == set()


def policy_of(file: str) -> dict[str, list[dict[str, Any]]]:
    document = Template(file, {"Name": "sales-dev"}).evaluate(properties(file, "Policy"))["PolicyDocument"]
    # AWS's limit, without spaces.
    assert len(json.dumps(document, separators=(",", ":"))) <= 6144
    return dict(document)


def test_deployer_of_ecs_can_change_only_the_resources_of_its_stack() -> None:
    statements = policy_of("ecs-deployer.yml")["Statement"]
    resources = [name for statement in statements for name in listed(statement["Resource"]) if name != "*"]
    assert all(re.search(r"[:/]sales-dev-dbt(/?\*)?$", name) for name in resources), resources
    everywhere = {action for item in statements if item["Resource"] == "*" for action in listed(item["Action"])}
    # AWS has no resources for these.
    assert everywhere == {
        *("ecs:CreateCluster", "ecs:DeregisterTaskDefinition", "ecs:DescribeTaskDefinition", "ecs:ListClusters"),
        *("ecs:ListTaskDefinitions", "iam:CreateServiceLinkedRole", "ssm:DescribeParameters"),
    }


def test_deployer_has_no_administrator_permissions() -> None:
    document = policy_of("deployer.yml")
    everywhere = [statement for statement in document["Statement"] if "*" in listed(statement["Resource"])]
    actions = {action for statement in everywhere for action in listed(statement["Action"])}
    assert not [action for action in actions if action.endswith(":*")]
    iam = {action for action in actions if action.startswith("iam:")}
    assert iam == {"iam:CreateServiceLinkedRole", "iam:ListOpenIDConnectProviders", "iam:ListRoles"}
    roles = [statement["Resource"] for statement in document["Statement"] if "iam:PutRolePolicy" in statement["Action"]]
    assert roles == ["arn:aws:iam::123456789012:role/sales-dev-*"]
