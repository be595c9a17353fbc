"""Shows the problems of pipelines.yml as an import error in Airflow. Creates no DAG.

Airflow keeps one import error for each file, and disables all DAGs of a file that has one. Therefore the import error
belongs to this file, and the DAGs of the valid entries belong to pipelines.py.
"""

from pathlib import Path

from mwaa_pipelines.config_file import load_pipelines
from mwaa_pipelines.settings import PipelineError

try:
    problems = load_pipelines(Path(__file__).with_name("pipelines.yml")).problems
except PipelineError:
    # The whole file is unusable. pipelines.py raises the same error, and there is no DAG to protect.
    problems = []
if problems:
    raise PipelineError("\n  ".join(problems))
