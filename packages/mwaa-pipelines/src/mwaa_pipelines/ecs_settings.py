"""The setting `ecs` of a pipeline."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mwaa_pipelines.setting_types import Key

# MiB of memory that Fargate offers, by units of CPU.
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html (read 2026-11)
FARGATE_MEMORY = {
    256: (512, 1024, 2048),
    512: range(1024, 4096 + 1, 1024),
    1024: range(2048, 8192 + 1, 1024),
    2048: range(4096, 16384 + 1, 1024),
    4096: range(8192, 30720 + 1, 1024),
    8192: range(16384, 61440 + 1, 4096),
    16384: range(32768, 122880 + 1, 8192),
}


class Ecs(BaseModel):
    """The setting `ecs`: the task of ECS that runs dbt."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cluster: Key = Field(description="Cluster of infra/ecs.yml: its parameter Name with -dbt, such as shop-dbt.")
    cpu: int = Field(1024, description="CPU of the task. 1024 is one vCPU.")
    memory: int = Field(2048, description="Memory of the task in MiB. Fargate offers certain sizes for each cpu.")
    task_definition: Key | None = Field(
        None, description="Another task definition than that of the cluster, such as one with its own role."
    )

    @model_validator(mode="after")
    def _fargate_has_size(self) -> "Ecs":
        if self.cpu not in FARGATE_MEMORY:
            raise ValueError(f"cpu must be one of {', '.join(map(str, FARGATE_MEMORY))}, not {self.cpu}")
        sizes = FARGATE_MEMORY[self.cpu]
        if self.memory not in sizes:
            raise ValueError(f"memory must be one of {', '.join(map(str, sizes))} for cpu: {self.cpu}")
        return self
