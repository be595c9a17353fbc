"""Keeps what dbt reported: a callback after every dbt process, and one after every failed task.

Both push an XCom of their own task, so the failure report needs no database query and no file that workers share.
"""

import json
import logging
from pathlib import Path
from typing import Any

RESULTS_KEY = "dbt_results"
ERROR_KEY = "task_error"
# What dbt said last, of a process that ended before it ran anything: a wrong password, a model that does not compile.
LAST_WORDS_KEY = "dbt_last_words"
# SNS and a person's eye both want one line; a database error can be a page.
MESSAGE_CHARACTERS = 500

log = logging.getLogger(__name__)


def first_error_line(message: str | None) -> str:
    """Return the line of dbt's message that says what is wrong, at most 500 characters.

    dbt puts a heading first ("Database Error in model x (models/x.sql)"), the database's words on the lines after it.
    """
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    if len(lines) > 1 and " Error in " in lines[0]:
        lines = lines[1:]
    return lines[0][:MESSAGE_CHARACTERS] if lines else ""


def keep_results(project_dir: str, context: Any) -> None:
    """Push what dbt reported of every node; called by Cosmos after dbt ended, failed or not.

    Args:
        project_dir: the folder dbt ran in; it is removed afterwards.
        context: Airflow's task context.
    """
    # An exception here would stand in the log instead of dbt's own error.
    try:
        results = Path(project_dir) / "target" / "run_results.json"
        if not results.is_file():
            log.warning("dbt ended before it ran anything; its message stands above")
            # Without words, too: that it ended before its task did is worth knowing.
            words = _last_words(Path(project_dir) / "logs" / "dbt.log")
            context["ti"].xcom_push(key=LAST_WORDS_KEY, value=words or "")
            return
        content = json.loads(results.read_text())
        context["ti"].xcom_push(
            key=RESULTS_KEY,
            value={
                "invocation_id": content["metadata"]["invocation_id"],
                "generated_at": content["metadata"]["generated_at"],
                "try_number": context["ti"].try_number,
                "results": [
                    {
                        "unique_id": result["unique_id"],
                        "status": result["status"],
                        "message": first_error_line(result["message"]),
                        "execution_time": result["execution_time"],
                    }
                    for result in content["results"]
                ],
            },
        )
    except Exception:
        log.exception("dbt's results could not be kept; the failure report will only name the task")


def _last_words(path: Path) -> str | None:
    """The last error in dbt's log, which holds one event a line, as DBT_LOG_FORMAT_FILE says."""
    try:
        errors = [line for line in path.read_text(errors="replace").splitlines() if '"level": "error"' in line]
        words = json.loads(errors[-1])["info"]["msg"].removeprefix("Encountered an error:")
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
    return " ".join(words.split())[:MESSAGE_CHARACTERS]


def keep_error(context: Any) -> None:
    """Push the first line of what failed a task; called by Airflow after its last try.

    Of a task that was lost with its worker Airflow's DAG processor calls it, without an exception. There is nothing to
    keep then; and the DAG processor knows no answer to a push: it would hang until the file's time to be parsed is up,
    and Airflow would take a DAG that it has not parsed for so long for deleted.
    """
    try:
        if context.get("exception"):
            ti = context["ti"]
            message = first_error_line(str(context["exception"]))
            ti.xcom_push(key=ERROR_KEY, value={"message": message, "try_number": ti.try_number})
    except Exception:
        log.exception("the error could not be kept; the failure report will only name the task")
