"""Airflow's traceback of a DAG file is reduced to the error message."""

from mwaa_local.mwaa.api import import_error

HEAD = """Traceback (most recent call last):
  File "/x/airflow/dag_processing/importers/python_importer.py", line 200, in parse
    loader.exec_module(new_module)
  File "<frozen importlib._bootstrap>", line 488, in _call_with_frames_removed
"""


def test_pipeline_error_is_shown_without_its_traceback() -> None:
    trace = (
        HEAD
        + '  File "/x/dags/pipelines.py", line 21, in <module>\n'
        + "    for pipeline in load_pipelines(path):\n"
        + "mwaa_pipelines.settings.PipelineError: /x/dags/pipelines.yml is not valid YAML: wrong colon\n"
        + '  in "<unicode string>", line 3, column 9:\n'
        + "        dag_name: x: y\n"
        + "                ^\n"
    )
    assert import_error(trace) == (
        "mwaa_pipelines.settings.PipelineError: /x/dags/pipelines.yml is not valid YAML: wrong colon\n"
        '  in "<unicode string>", line 3, column 9:\n'
        "        dag_name: x: y\n"
        "                ^"
    )


def test_other_errors_are_shown_with_their_line() -> None:
    trace = (
        HEAD
        + '  File "/x/dags/pipelines.py", line 9, in <module>\n    import nothing\nModuleNotFoundError: No module\n'
    )
    assert import_error(trace) == 'ModuleNotFoundError: No module\n    File "/x/dags/pipelines.py", line 9, in <module>'


def test_syntax_error_is_shown_with_its_line() -> None:
    trace = HEAD + '  File "/x/dags/pipelines.py", line 9\n    for pipeline on\n    ^^^\nSyntaxError: invalid syntax\n'
    assert import_error(trace) == 'SyntaxError: invalid syntax\n    File "/x/dags/pipelines.py", line 9'


def test_error_of_a_library_is_shown_with_the_line_of_the_dag_file() -> None:
    trace = (
        HEAD
        + '  File "/x/dags/pipelines.py", line 9, in <module>\n    EmptyOperator(task_id="?")\n'
        + '  File "/x/lib/python3.12/site-packages/airflow/sdk/operator.py", line 7, in __init__\n    validate()\n'
        + "ValueError: the key '?' has a wrong character\nUse letters\n"
    )
    assert import_error(trace) == (
        "ValueError: the key '?' has a wrong character\nUse letters\n"
        '    File "/x/dags/pipelines.py", line 9, in <module>'
    )


def test_last_of_chained_errors_is_shown() -> None:
    trace = (
        HEAD
        + "KeyError: 'a'\n\nDuring handling of the above exception, another exception occurred:\n\n"
        + HEAD
        + "ValueError: b\n"
    )
    assert import_error(trace).startswith("ValueError: b\n")


def test_error_without_a_traceback_is_unchanged() -> None:
    assert import_error("DagBag import timeout for /x/dags/pipelines.py after 30.0s") == (
        "DagBag import timeout for /x/dags/pipelines.py after 30.0s"
    )
    assert import_error("") == ""
