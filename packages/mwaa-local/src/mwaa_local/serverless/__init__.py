"""Workflows of Amazon MWAA Serverless on the laptop: its Airflow, and the commands that run them."""

from pathlib import Path

# It runs in the service's Airflow, and imports nothing of this package.
PROGRAM = Path(__file__).with_name("run_definition.py")


def airflow_folder(state: Path) -> Path:
    """Return the virtual environment with the service's versions, beside those of the tools and of uv."""
    return (state / "venvs" / "mwaa-serverless").resolve()
