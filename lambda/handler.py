"""The alert function. It publishes the result of a pipeline's run and the next steps to an SNS topic.

The pipeline invokes it when dbt failed and, depending on its settings, when a test warned, a run is late, or a run
succeeded after a failure. The function overdue_runs invokes it when no run succeeded in time. Environment: `TOPIC_ARN`,
the standard SNS topic with the recipients' subscriptions. Payload: alert.schema.json; only `dag_name` is required.

Email subscribers get a text, SMS subscribers one line, and programs (HTTPS, Lambda) the payload as JSON.

Every error is raised, so the task that invoked the function fails, too. An alert that was not sent is never reported as
sent.
"""

import json
import os
import re
import unicodedata
from typing import Any

import boto3
from botocore.config import Config

# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: a subject is ASCII, without control characters, shorter
# than 100 characters; a message, the texts of all protocols together, is at most 256 KB of UTF-8.
SUBJECT_CHARACTERS = 99
MESSAGE_BYTES = 256 * 1024 - 1024
# One SMS. https://docs.aws.amazon.com/sns/latest/dg/sms_sending-overview.html
SMS_CHARACTERS = 140
STATUSES = {"failed": "FAILED", "warned": "WARNED", "recovered": "OK AGAIN", "late": "LATE", "overdue": "OVERDUE"}
PROGRAMS = ("https", "lambda")
LINE_CHARACTERS = 500
URL_CHARACTERS = 2000

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class InvalidPayloadError(ValueError):
    """The payload does not match alert.schema.json. The message names the key."""


def _topic_arn(value: str | None) -> str:
    """Check `TOPIC_ARN`.

    Raises:
        RuntimeError: the variable is missing, or is not the ARN of a standard SNS topic.
    """
    if not value:
        raise RuntimeError("TOPIC_ARN is not set; give the function the ARN of the SNS topic that people subscribe to")
    if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}", value, re.ASCII):
        raise RuntimeError(
            f"TOPIC_ARN={value!r} is not the ARN of a standard SNS topic: arn:aws:sns:<region>:<account>:<name>"
        )
    return value


TOPIC_ARN = _topic_arn(os.environ.get("TOPIC_ARN"))
# At most 3 tries of 7 seconds, which end before the function's timeout of 30 seconds.
_sns = boto3.client(
    "sns",
    region_name=TOPIC_ARN.split(":")[3],
    config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"}),
)


def lambda_handler(event: Any, _context: object) -> dict[str, str]:
    """Publish the alert in `event`.

    Returns:
        `{"message_id": …}`, with the id from SNS.

    Raises:
        InvalidPayloadError: `event` does not match alert.schema.json.
        botocore.exceptions.ClientError, BotoCoreError: SNS refused the message or could not be reached.
    """
    alert = _validated(event)
    answer = _sns.publish(TopicArn=TOPIC_ARN, Subject=subject(alert), Message=messages(alert), MessageStructure="json")
    return {"message_id": answer["MessageId"]}


def subject(alert: dict[str, Any], characters: int = SUBJECT_CHARACTERS) -> str:
    """Return a payload's subject for SNS: the status, the pipeline and the first failed or warned node."""
    nodes = alert["failed"] or alert["warned"]
    what = f": {nodes[0]['unique_id']}" if nodes else ""
    more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
    word = _word(alert)
    name = _line(_ascii(alert["dag_name"]), 60)
    room = characters - len(f"{word} {name}{more}")
    # The end of a node's id is the useful part: model.flights.fct_flights, test.flights.not_null_fct_flights_id.
    what = _line(_ascii(what), LINE_CHARACTERS)
    if len(what) > room:
        what = f": ..{what[-(room - 4) :]}"
    return f"{word} {name}{what}{more}"


def messages(alert: dict[str, Any]) -> str:
    """Return the message of each protocol, as SNS expects it. Lists are cut so that it fits into `MESSAGE_BYTES`."""
    node_limit = max(len(alert["failed"]), len(alert["warned"]))
    while True:
        text = message(alert, node_limit)
        cut = {**alert, "failed": alert["failed"][:node_limit], "warned": alert["warned"][:node_limit]}
        document = json.dumps(_plain(cut), ensure_ascii=False)
        texts = {"default": text, "sms": subject(alert, SMS_CHARACTERS), **dict.fromkeys(PROGRAMS, document)}
        structure = json.dumps(texts, ensure_ascii=False)
        if len(structure.encode()) <= MESSAGE_BYTES:
            return structure
        node_limit = node_limit * 3 // 4


def message(alert: dict[str, Any], shown: int) -> str:
    """Return the text of a validated payload, with `shown` nodes of each list."""
    failed, warned = alert["failed"], alert["warned"]
    head = [f"Pipeline {_line(alert['dag_name'])} {_word(alert)}.", ""]
    date = "Run due" if alert["status"] == "overdue" else "Logical date"
    for label, key in (("Run", "run_id"), (date, "logical_date"), ("Release", "release_id")):
        if alert[key]:
            head.append(f"{label + ':':<14}{_line(alert[key])}")
    if alert["last_success"] and alert["again"]:
        head.append(f"{'Failed since:':<14}the run after that of {_line(alert['last_success'])}")
    if alert["log_url"]:
        head.append(f"{'Log:':<14}{_line(alert['log_url'], URL_CHARACTERS)}")
    body = []
    for word, nodes in (("failed", failed), ("warned", warned)):
        if nodes:
            body += ["", f"{len(nodes)} {word}:", *map(_node, nodes[:shown])]
            body += [f"... and {len(nodes) - shown} more"] if len(nodes) > shown else []
    if alert["status"] == "late":
        deadline = f" after {alert['deadline_minutes']} minutes" if alert["deadline_minutes"] else ""
        body += ["", f"The run is not finished{deadline}. It continues; if it fails, another alert is sent."]
    if alert["status"] == "overdue":
        minutes = f" within {alert['deadline_minutes']} minutes" if alert["deadline_minutes"] else ""
        body += [
            f"{'Last success:':<14}{_line(alert['last_success'] or 'none')}",
            "",
            f"A run was due, and none has succeeded{minutes}.",
            "",
            "What to do:",
            "1. Open the pipeline in Airflow. Is it paused, or missing because of an import error?",
            "2. If Airflow does not answer or starts nothing, open the environment's CloudWatch dashboard.",
            "3. Start a run. When it has succeeded, another message says OK AGAIN.",
        ]
    if alert["status"] != "failed":
        return "\n".join([*head, *body])
    if not failed:
        body = ["", "No dbt node was reported as failed; the log says which task was.", *body]
    look = "Open the log above" if alert["log_url"] else "Open the run in Airflow"
    tail = [
        "",
        "What to do:",
        f"1. {look} and find the cause: the model, its source data, or the cluster.",
        "2. Release a fix, or roll back to the release before.",
        "3. Clear the failed tasks of this run in Airflow: they run again, and so does what depends on them.",
    ]
    return "\n".join([*head, *body, *tail])


def _word(alert: dict[str, Any]) -> str:
    return f"{STATUSES[alert['status']]}{' AGAIN' if alert['again'] and alert['status'] == 'failed' else ''}"


def _node(node: dict[str, Any]) -> str:
    tries = f", try {node['try_number']}" if node["try_number"] is not None else ""
    seconds = f", {node['execution_time']:.1f} s" if node["execution_time"] is not None else ""
    status = _line(node["status"] or "failed", 50)
    error = _first_error(node["message"] or "")
    return f"- {_line(node['unique_id'])} ({status}{tries}{seconds})" + (f"\n  {error}" if error else "")


def _first_error(text: str) -> str:
    """Return the line with the error. dbt's first line can be only a heading: `Database Error in model x (x.sql)`."""
    lines = [line for line in map(_line, text.splitlines()) if line]
    return _line(": ".join(lines[: 2 if lines and " Error in " in lines[0] else 1]))


def _line(text: str, limit: int = LINE_CHARACTERS) -> str:
    """Return one line of at most `limit` characters, without colors and control characters."""
    text = _ANSI.sub("", text)
    # C: control, format, surrogate, private and unassigned characters. SQS refuses some, UTF-8 cannot hold others.
    text = "".join(" " if unicodedata.category(character).startswith("C") else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 2] + ".."


def _plain(value: Any) -> Any:
    """Return the payload with every text passed through `_line`."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return _line(value, URL_CHARACTERS) if isinstance(value, str) else value


def _ascii(text: str) -> str:
    plain = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return "".join(plain).encode("ascii", "replace").decode()


def _validated(event: Any) -> dict[str, Any]:
    """Return the payload with all known keys and without unknown keys."""
    if not isinstance(event, dict):
        raise InvalidPayloadError(f"the payload must be a JSON object, not {type(event).__name__}")
    alert = {key: _text(event, key, key) for key in ("dag_name", "run_id", "logical_date", "release_id", "log_url")}
    if not _line(alert["dag_name"] or ""):
        raise InvalidPayloadError("dag_name: missing or blank; it must name the pipeline that failed")
    alert["last_success"] = _text(event, "last_success", "last_success")
    alert["status"] = "failed" if event.get("status") is None else event["status"]
    if not (isinstance(alert["status"], str) and alert["status"] in STATUSES):
        raise InvalidPayloadError(f"status: must be one of {', '.join(STATUSES)}, not {alert['status']!r}")
    alert["again"] = False if event.get("again") is None else event["again"]
    if not isinstance(alert["again"], bool):
        raise InvalidPayloadError(f"again: must be true or false, not {type(alert['again']).__name__}")
    alert["deadline_minutes"] = _number(event, "deadline_minutes", "deadline_minutes", int, "a whole number")
    for key in ("failed", "warned"):
        nodes = event.get(key)
        if not isinstance(nodes, list | None):
            raise InvalidPayloadError(f"{key}: must be a list, not {type(nodes).__name__}")
        alert[key] = [_validated_node(node, f"{key}[{number}]") for number, node in enumerate(nodes or [])]
    return alert


def _validated_node(node: Any, where: str) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise InvalidPayloadError(f"{where}: must be a JSON object, not {type(node).__name__}")
    checked: dict[str, Any] = {key: _text(node, key, f"{where}.{key}") for key in ("unique_id", "status", "message")}
    if not _line(checked["unique_id"] or ""):
        raise InvalidPayloadError(f"{where}.unique_id: missing or blank; it must name what failed")
    for key, kind, words in (("try_number", int, "a whole number"), ("execution_time", int | float, "a number")):
        checked[key] = _number(node, key, f"{where}.{key}", kind, words)
    return checked


def _number(mapping: dict[str, Any], key: str, where: str, kind: Any, words: str) -> Any:
    value = mapping.get(key)
    # json.loads accepts NaN and Infinity, which are not JSON, and numbers of any length.
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool) or not abs(value) < 1e15):
        raise InvalidPayloadError(f"{where}: must be {words}, not {value!r:.50}")
    return value


def _text(mapping: dict[str, Any], key: str, where: str) -> str | None:
    value = mapping.get(key)
    if not isinstance(value, str | None):
        raise InvalidPayloadError(f"{where}: must be text, not {type(value).__name__}")
    return value
