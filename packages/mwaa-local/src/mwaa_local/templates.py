"""Evaluates the CloudFormation templates of `infra/` for the account of the stand-ins.

The stand-ins do not use moto's CloudFormation, because importing it takes seconds.
"""

from typing import Any

from mwaa_local.settings import ACCOUNT_ID, ENVIRONMENT, REGION
from mwaa_release import templates
from mwaa_release.templates import INFRA, load

__all__ = ["INFRA", "Template", "load"]

_VALUES = {
    "AWS::Partition": "aws",
    "AWS::AccountId": ACCOUNT_ID,
    "AWS::Region": REGION,
    # What a team passes to each of its stacks.
    "Name": ENVIRONMENT,
    "EnvironmentName": ENVIRONMENT,
}


class Template(templates.Template):
    """A template with the values that are the same for each stack of the stand-ins."""

    def __init__(self, file: str, values: dict[str, Any]) -> None:
        super().__init__(file, {**_VALUES, **values})
