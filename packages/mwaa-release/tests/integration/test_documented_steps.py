"""The numbered steps of infra/README.md work in their order, in an empty account and an empty warehouse.

The stand-in's CloudFormation ignores some resources. The test creates these after the step that documents them. The
end-to-end tests cover the last step, a run on Airflow.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mwaa_local.aws import seed
from mwaa_local.settings import ACCOUNT_ID, REPOSITORY
from mwaa_local.templates import load
from mwaa_local.testing.aws import Aws, running_aws
from mwaa_local.testing.stacks import Stacks
from mwaa_pipelines.load_files import Loader
from mwaa_release.pipelines import find_pipeline
from redshift_local.pytest_plugin import Warehouse

PASSWORD = "Documented 1"


def steps() -> dict[int, list[str]]:
    """Return the commands of each required step, by step number."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| ", (REPOSITORY / "infra" / "README.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    return {
        int(number): re.findall(r"`((?:stack|deploy) [^`]+)`", text)
        for number, text in rows
        if not text.startswith("optional")
    }


class Account:
    """An AWS account and a warehouse, in which the documented commands run."""

    def __init__(self, aws: Aws, warehouse: Warehouse, state: Path) -> None:
        self.aws, self.warehouse, self.state = aws, warehouse, state
        self.stacks = Stacks(aws)
        self.variables = {"NAME": self.stacks.name, **self._network()}
        self.outputs: dict[str, dict[str, str]] = {}
        self.after: dict[str, Callable[[], None]] = {
            "redshift": self._workgroup,
            "credentials": self._secrets,
            "storage": self._bucket,
            "notification": self._subscription,
            "environment": self._environment,
        }

    def _network(self) -> dict[str, str]:
        """Create the network that companies already have, and return the shell variables of the documented commands."""
        ec2, cidr = self.aws.client("ec2"), "10.9.0.0/16"
        vpc = ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        first, second, self.third_subnet = (
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.9.{n}.0/24")["Subnet"]["SubnetId"] for n in range(3)
        )
        table = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
        return {"VPC": vpc, "CIDR": cidr, "SUBNETS": f"{first},{second}", "ROUTES": table}

    def type(self, command: str) -> None:
        for variable, value in self.variables.items():
            command = command.replace(f"${variable}", value)
        command = command.replace("subnet-…", self.third_subnet)
        # A step that needs the output of a later stack is a KeyError.
        command = re.sub(r"\$\(out (\w+) (\w+)\)", lambda output: self.outputs[output[1]][output[2]], command)
        assert not re.search(r"[$…]", command), command
        tool, name, *words = shlex.split(command)
        if tool == "stack":
            self.outputs[name] = self.stacks.make(f"{name}.yml", **dict(word.split("=", 1) for word in words))
            self.after.get(name, lambda: None)()
        else:
            self._deploy(name, *words)

    def _deploy(self, *words: str) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "REDSHIFT_"))}
        superuser = {
            "REDSHIFT_HOST": self.warehouse.host,
            "REDSHIFT_PORT": str(self.warehouse.port),
            "REDSHIFT_USER": self.warehouse.user,
            "REDSHIFT_PASSWORD": self.warehouse.password,
            "REDSHIFT_SSLMODE": "disable",
        }
        settings = {"DEPLOY_ACCOUNT_ID": ACCOUNT_ID, "LOCAL_DIR": str(self.state)}
        completed = subprocess.run(
            [sys.executable, "-m", "mwaa_release", *words],
            cwd=REPOSITORY,
            env={**inherited, **self.aws.environment(), **superuser, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, f"deploy {' '.join(words)}\n{completed.stdout}{completed.stderr}"

    def _workgroup(self) -> None:
        arn = f"arn:aws:redshift-serverless:us-east-1:{ACCOUNT_ID}:workgroup/0f1e2d3c"
        self.outputs["redshift"] |= {"Host": self.warehouse.host, "WorkgroupArn": arn}

    def _bucket(self) -> None:
        s3, bucket = self.aws.client("s3"), self.outputs["storage"]["DagsBucketName"]
        properties = load("storage.yml")["Resources"]["DagsBucket"]["Properties"]
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=properties["VersioningConfiguration"])
        block = {"PublicAccessBlockConfiguration": properties["PublicAccessBlockConfiguration"]}
        s3.put_public_access_block(Bucket=bucket, **block)

    def _subscription(self) -> None:
        topic, queue = self.outputs["notification"]["TopicArn"], f"arn:aws:sqs:us-east-1:{ACCOUNT_ID}:alerts"
        self.aws.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)

    def _environment(self) -> None:
        values = self.outputs["storage"] | {"Name": self.stacks.name}
        values |= {"ExecutionRole.Arn": self.outputs["environment"]["ExecutionRoleArn"]}
        seed.client(self.aws.settings, "mwaa").create_environment(**seed.environment_properties(values))

    def _secrets(self) -> None:
        names = {key: parameter.get("Default") for key, parameter in load("credentials.yml")["Parameters"].items()}
        login = {"username": "dbt_user", "password": PASSWORD}
        where = {"conn_type": "redshift", "host": self.outputs["redshift"]["Host"], "port": self.warehouse.port}
        where |= {"schema": "dev", "extra": {"sslmode": "disable"}}
        secrets = {names["SecretName"]: login, f"airflow/connections/{names['ConnectionId']}": where}
        for name, content in secrets.items():
            self.aws.client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(content))


@pytest.mark.timeout(600)
def test_documented_steps_work_in_their_order(start_redshift, tmp_path):
    with running_aws(tmp_path) as aws:
        account = Account(aws, start_redshift(environment=aws.environment()), tmp_path)
        commands = [command for commands in steps().values() for command in commands]
        assert commands[-1].startswith("deploy smoke ")
        for command in commands[:-1]:
            account.type(command)
        pipeline, name = find_pipeline(), account.outputs["storage"]["DagsBucketName"]
        current = aws.client("s3").get_object(Bucket=name, Key=f"dags/dbt/{pipeline.project_name}/CURRENT")
        assert current["Body"].read()
        landing = account.outputs["storage"]["LandingBucketName"]
        with contextlib.closing(account.warehouse.connect("dbt_user", PASSWORD)) as connection:
            # As the first task of the pipeline.
            loader = Loader(connection, aws.client("s3"), pipeline.target_schema)
            assert [loader.load(table, landing).problems for table in pipeline.load] == [()] * 5
            cursor = connection.cursor()
            cursor.execute("select count(*) from landing.flights")
            assert cursor.fetchone()[0] == 336776
            cursor.execute(f"create table {pipeline.target_schema}.mine as select 1 as id")
