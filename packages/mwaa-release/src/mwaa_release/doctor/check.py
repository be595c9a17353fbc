"""Runs checks. A check inspects one part of an account and returns a description, or a finding with a fix."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError

from audit_report.redshift import WarehouseError, error_text
from mwaa_pipelines.settings import Pipeline
from mwaa_release.bucket import Bucket
from mwaa_release.errors import DENIED_CODES, DeployError, from_aws
from mwaa_release.pipelines import PIPELINES
from mwaa_release.progress import Progress, no_progress

_DENIED_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)(?: on resource: (\S+))?")


@dataclass(frozen=True)
class Finding:
    """A problem.

    Args:
        problem: one sentence with the value.
        fix: the command or action that fixes it.
        stops_smoke: whether a smoke test cannot succeed.
    """

    problem: str
    fix: str
    stops_smoke: bool = False


class NotCheckedError(Exception):
    """A check cannot run. The text gives the reason."""


@dataclass
class Account:
    """The account to check, and the results of earlier checks.

    Args:
        client: returns a boto3 client of a service.
        environment_name: the MWAA environment.
        pipeline: the pipeline whose settings are checked. Settings for environments are those of the MWAA environment.
        expected_account: the account id that the credentials must belong to; None accepts any.
        bucket_name: the bucket that MWAA reads; empty: the environment's.
        repository: `owner/name` on GitHub; empty without one.
        github_environment: GitHub environment whose jobs release.
        release_role: name of the role that these jobs assume.
        project: folder of the pipeline's dbt project; None: the one with its name in the repository.
        pipelines_file: the file with the pipeline.
        progress: receives the steps of a long check.
    """

    client: Callable[[str], Any]
    environment_name: str
    pipeline: Pipeline
    expected_account: str | None = None
    bucket_name: str = ""
    repository: str = ""
    github_environment: str = "dev"
    release_role: str = ""
    project: Path | None = None
    pipelines_file: Path = PIPELINES
    progress: Progress = no_progress
    # Set by checks; the checks that read one of these need that check.
    caller: dict[str, str] = field(default_factory=dict)
    region: str = ""
    environment: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    connection: dict[str, Any] = field(default_factory=dict)
    connections_prefix: str = ""
    warehouse_login: dict[str, str] = field(default_factory=dict)
    warehouse: Any = None
    topic_arn: str = ""

    @property
    def bucket(self) -> Bucket:
        """The bucket that MWAA reads.

        Raises:
            NotCheckedError: its name is unknown.
        """
        name = self.bucket_name or self.environment.get("SourceBucketArn", "").rpartition(":")[2]
        if not name:
            raise NotCheckedError("the bucket is unknown without the environment; set --bucket")
        return Bucket(name, self.client("s3"))

    @property
    def partition(self) -> str:
        """`aws`, or the partition of China or GovCloud."""
        return self.caller["Arn"].split(":")[1]


Result = str | Finding


def count(number: int, noun: str) -> str:
    """Return `1 file` or `2 files`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class Check:
    """One check.

    Args:
        name: its name in the output.
        run: runs the check and returns a description or a finding.
        needs: the names of the checks that must succeed first.
        actions: the IAM actions that the caller needs.
    """

    name: str
    run: Callable[[Account], Result]
    needs: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of a check.

    Args:
        check: the check.
        status: `ok`, `failed` or `not checked`.
        text: the result of a success, or the reason of a failure or of a check that did not run.
        fix: the fix of a failure.
        stops_smoke: whether a smoke test cannot succeed.
    """

    check: Check
    status: str
    text: str
    fix: str = ""
    stops_smoke: bool = False


def run_checks(
    checks: Sequence[Check],
    account: Account,
    step: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Outcome]:
    """Run checks one after another, and yield the outcome of each.

    A check does not run if a check that it needs did not succeed.

    Args:
        checks: the checks, each after the checks that it needs.
        account: the account to check.
        step: shows the name of the running check until its context ends.
    """
    succeeded = set()
    for check in checks:
        with step(check.name):
            missing = [name for name in check.needs if name not in succeeded]
            outcome = Outcome(check, "not checked", f"needs {missing[0]}") if missing else _outcome(check, account)
        if outcome.status == "ok":
            succeeded.add(check.name)
        yield outcome


def _outcome(check: Check, account: Account) -> Outcome:
    try:
        result = check.run(account)
    except NotCheckedError as error:
        return Outcome(check, "not checked", str(error))
    except (BotoCoreError, ClientError) as error:
        return _aws_outcome(check, account, error)
    except (DeployError, WarehouseError) as error:
        if isinstance(error.__cause__, BotoCoreError | ClientError):
            return _aws_outcome(check, account, error.__cause__)
        return Outcome(check, "failed", str(error))
    except redshift_connector.Error as error:
        return Outcome(check, "failed", f"Redshift refused: {error_text(error)}")
    if isinstance(result, Finding):
        return Outcome(check, "failed", result.problem, result.fix, result.stops_smoke)
    return Outcome(check, "ok", result)


def _aws_outcome(check: Check, account: Account, error: BotoCoreError | ClientError) -> Outcome:
    if not isinstance(error, ClientError) or error.response["Error"].get("Code") not in DENIED_CODES:
        return Outcome(check, "failed", str(from_aws(error, "asking AWS")))
    denied = _DENIED_ACTION.search(error.response["Error"].get("Message", ""))
    action = denied[1] if denied else " and ".join(check.actions)
    where = f" on {denied[2]}" if denied and denied[2] else ""
    caller = account.caller.get("Arn", "the caller")
    return Outcome(check, "failed", f"no permission for {action}{where}", f"allow {action} to {caller}")
