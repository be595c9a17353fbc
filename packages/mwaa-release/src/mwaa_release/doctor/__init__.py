"""Checks a real account before the first run: read-only, one finding and one fix for each problem."""

from mwaa_release.doctor import aws, github, warehouse
from mwaa_release.doctor.check import Check
from mwaa_release.doctor.explain import SQL

CHECKS: tuple[Check, ...] = (
    aws.CREDENTIALS,
    *aws.ENVIRONMENT,
    *aws.BUCKET,
    *aws.RELEASE,
    *warehouse.LOGINS,
    *aws.EXECUTION_ROLE,
    *github.GITHUB,
    *warehouse.GRANTS,
    *aws.ALERT,
)
# A release role can run these checks. The others need permissions that no GitHub job should have, such as for secrets.
SMOKE_CHECKS: tuple[Check, ...] = (aws.CREDENTIALS, *aws.ENVIRONMENT, *aws.RELEASE)

__all__ = ["CHECKS", "SMOKE_CHECKS", "SQL"]
