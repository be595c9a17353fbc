"""The setting `serverless` of a pipeline."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Serverless(BaseModel):
    """The setting `serverless`: the tasks of the workflow."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tasks: Literal["one", "models"] = Field(
        "one",
        description="one: one dbt process builds all nodes (fastest and cheapest); models: a task for each node, which "
        "shows the progress. Each task has its own worker and its own dbt process.",
    )
