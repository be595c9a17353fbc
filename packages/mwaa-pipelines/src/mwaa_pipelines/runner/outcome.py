"""How a job ends."""

from dataclasses import dataclass

# Of a process that was ended by SIGKILL, as Linux does when memory runs out.
KILLED = 137


@dataclass(frozen=True)
class Outcome:
    """How a job ended: dbt's exit code, or 128 and the signal that ended dbt; and an error that dbt did not report."""

    exit_code: int
    error: str = ""


def out_of_memory(memory: int | None) -> str:
    """Return the message about a task that used more than its memory, in MiB."""
    limit = f", {memory} MiB" if memory else ""
    return (
        f"dbt was killed, as Linux does when a task needs more than its memory{limit}. Raise memory under ecs in "
        "dags/pipelines.yml, or lower threads"
    )
