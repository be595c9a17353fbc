"""Shows in Airflow, as an import error, what is wrong with entries of pipelines.yml; makes no DAG.

Airflow keeps one import error for a file, and takes every DAG of that file out of service. So the error is this file's,
and the DAGs of good entries are in pipelines.py.
"""

# Airflow looks into files that hold the words airflow and DAG.
from pathlib import Path

from mwaa_pipelines.config_file import load_pipelines
from mwaa_pipelines.settings import PipelineError

try:
    problems = load_pipelines(Path(__file__).with_name("pipelines.yml")).problems
except PipelineError:
    # The file as a whole: pipelines.py says so, and there is no DAG to protect.
    problems = []
if problems:
    raise PipelineError("\n  ".join(problems))
