"""Why a task of ECS ended, and what to do, in the words of AWS's documentation and of users' reports."""

import pytest

from mwaa_pipelines.ecs_task import why_stopped

ROUTE = "The subnets of the stack infra/ecs.yml need a route to ECR, S3 and CloudWatch Logs"
AUTHORIZATION = "unable to pull secrets or registry auth: The task cannot pull registry auth from Amazon ECR"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("CannotPullContainerError: pull image manifest has been retried 5 times: dial tcp: i/o timeout", ROUTE),
        (
            f"ResourceInitializationError: {AUTHORIZATION}: There is a connection issue between the task and Amazon "
            "ECR. Check your task network configuration. context deadline exceeded",
            ROUTE,
        ),
        (
            "ResourceInitializationError: failed to validate logger args: The task cannot find the Amazon CloudWatch "
            "log group defined in the task definition. There is a connection issue between the task and Amazon "
            "CloudWatch. Check your network configuration. : signal: killed",
            ROUTE,
        ),
        (
            "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
            "ResourceNotFoundException: The specified log group does not exist.",
            "Create the log group",
        ),
        ("CannotPullContainerError: image manifest: flights-dbt:abc: not found", "Build the image with the workflow"),
        (
            f"ResourceInitializationError: {AUTHORIZATION}: User is not authorized to perform: "
            "ecr:GetAuthorizationToken",
            "Update the stack infra/ecs.yml, whose role AgentRole needs this",
        ),
    ],
)
def test_task_that_could_not_start_is_explained_with_advice(reason: str, advice: str) -> None:
    text = why_stopped({"stopCode": "TaskFailedToStart", "stoppedReason": reason}, 512)
    assert text.startswith(f"the task could not start: {reason.rstrip('.')}. {advice}")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("TerminationNotice", "Your Fargate task is scheduled for retirement."),
        ("SpotInterruption", "Your Spot Task was interrupted."),
    ],
)
def test_task_that_fargate_stopped_says_so(code: str, reason: str) -> None:
    text = why_stopped({"stopCode": code, "stoppedReason": reason}, 512)
    assert text.startswith(f"AWS stopped the task ({code}): {reason}")
    assert text.endswith("Clear the failed tasks of the run to run the rest")
