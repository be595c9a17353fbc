"""Shows the problems of the pipelines as an import error in Airflow. Creates no DAG.

Airflow keeps one import error for each file, and disables all DAGs of a file that has one. Therefore the import error
belongs to this file, and the DAGs of the other pipelines belong to pipelines.py.
"""

from pathlib import Path

from mwaa_pipelines.dag_problems import find_problems
from mwaa_pipelines.settings import PipelineError

if problems := find_problems(Path(__file__).with_name("pipelines.py")):
    raise PipelineError("\n  ".join(problems))
