"""The notification function: tells people, through an SNS topic, which pipeline failed, where, and what to do about it.

The pipeline invokes it when dbt failed. Environment: `TOPIC_ARN`, the standard SNS topic that people are subscribed to.
Payload, of which only `dag_name` is required:

    {"dag_name", "run_id", "logical_date", "release_id", "log_url",
     "failed": [{"unique_id", "status", "message", "try_number"}]}

Whatever goes wrong here raises, so that the task that invoked the function fails too: nobody must believe that an alert
was sent when none was.
"""

import os
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import boto3
from botocore.config import Config

# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: a subject is ASCII, without control characters, shorter
# than 100 characters; a message with its subject is at most 256 KB of UTF-8.
SUBJECT_CHARACTERS = 99
MESSAGE_BYTES = 256 * 1024 - 1024
LINE_CHARACTERS = 500
URL_CHARACTERS = 2000

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class InvalidPayloadError(ValueError):
    """The payload is not what the module's first lines describe; the text names the key."""


def _topic_arn(value: str | None) -> str:
    """Check `TOPIC_ARN`.

    Raises:
        RuntimeError: it is missing, or not the ARN of a standard SNS topic.
    """
    if not value:
        raise RuntimeError("TOPIC_ARN is not set; give the function the ARN of the SNS topic that people subscribe to")
    if not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}", value, re.ASCII):
        raise RuntimeError(
            f"TOPIC_ARN={value!r} is not the ARN of a standard SNS topic: arn:aws:sns:<region>:<account>:<name>"
        )
    return value


TOPIC_ARN = _topic_arn(os.environ.get("TOPIC_ARN"))
# At most 3 tries of 7 seconds: within a function timeout of 30 seconds, with room for the start.
_sns = boto3.client(
    "sns",
    region_name=TOPIC_ARN.split(":")[3],
    config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 3, "mode": "standard"}),
)


def lambda_handler(event: Any, _context: object) -> dict[str, str]:
    """Publish the alert that `event` asks for.

    Returns:
        `{"message_id": …}` as SNS gave it.

    Raises:
        InvalidPayloadError: `event` is not the payload described in this module's first lines.
        botocore.exceptions.ClientError, BotoCoreError: SNS refused the message or could not be reached.
    """
    alert = _validated(event)
    answer = _sns.publish(TopicArn=TOPIC_ARN, Subject=subject(alert), Message=message(alert))
    return {"message_id": answer["MessageId"]}


def subject(alert: dict[str, Any]) -> str:
    """The subject of a validated payload: the pipeline, FAILED and the first node that did, within SNS's rules."""
    failed = alert["failed"]
    what = f": {failed[0]['unique_id']}" if failed else ""
    more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
    name = _line(_ascii(alert["dag_name"]), 60)
    room = SUBJECT_CHARACTERS - len(f"FAILED {name}{more}")
    # A node's end says most: model.flights.fct_flights, test.flights.not_null_fct_flights_id.
    what = _line(_ascii(what), LINE_CHARACTERS)
    if len(what) > room:
        what = f": ..{what[-(room - 4) :]}"
    return f"FAILED {name}{what}{more}"


def message(alert: dict[str, Any]) -> str:
    """The text of a validated payload, at most `MESSAGE_BYTES` of UTF-8; a list too long is cut, and says so."""
    failed = alert["failed"]
    head = [f"Pipeline {_line(alert['dag_name'])} FAILED.", ""]
    for label, key in (("Run", "run_id"), ("Logical date", "logical_date"), ("Release", "release_id")):
        if alert[key]:
            head.append(f"{label + ':':<14}{_line(alert[key])}")
    if alert["log_url"]:
        head.append(f"{'Log:':<14}{_line(alert['log_url'], URL_CHARACTERS)}")
    head += [
        "",
        f"{len(failed)} failed:" if failed else "No dbt node was reported as failed; the log says which task was.",
    ]
    look = "Open the log above" if alert["log_url"] else "Open the run in Airflow"
    tail = [
        "",
        "What to do:",
        f"1. {look} and find the cause: the model, its source data, or the cluster.",
        "2. Release a fix, or roll back to the release before.",
        "3. Clear the failed tasks of this run in Airflow: they run again, and so does what depends on them.",
    ]
    room = MESSAGE_BYTES - len("\n".join([*head, "... and 1000000 more", *tail]).encode())
    listed = list(_within(map(_node, failed), room))
    if len(listed) < len(failed):
        listed.append(f"... and {len(failed) - len(listed)} more")
    return "\n".join([*head, *listed, *tail])


def _within(lines: Iterable[str], room: int) -> Iterable[str]:
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            return
        yield line


def _node(node: dict[str, Any]) -> str:
    tries = f", try {node['try_number']}" if node["try_number"] is not None else ""
    status = _line(node["status"] or "failed", 50)
    error = _first_error(node["message"] or "")
    return f"- {_line(node['unique_id'])} ({status}{tries})" + (f"\n  {error}" if error else "")


def _first_error(text: str) -> str:
    """The line that says what is wrong. dbt's first line may only say where: `Database Error in model x (x.sql)`."""
    lines = [line for line in map(_line, text.splitlines()) if line]
    return _line(": ".join(lines[: 2 if lines and " Error in " in lines[0] else 1]))


def _line(text: str, limit: int = LINE_CHARACTERS) -> str:
    """One line of at most `limit` characters that any mail program and any queue can carry: no colours, no controls."""
    text = _ANSI.sub("", text)
    # C: control, format, surrogate, private and unassigned characters. SQS refuses some, UTF-8 cannot hold others.
    text = "".join(" " if unicodedata.category(character).startswith("C") else character for character in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 2] + ".."


def _ascii(text: str) -> str:
    plain = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return "".join(plain).encode("ascii", "replace").decode()


def _validated(event: Any) -> dict[str, Any]:
    """The payload with every key present; keys that are not known are left out."""
    if not isinstance(event, dict):
        raise InvalidPayloadError(f"the payload must be a JSON object, not {type(event).__name__}")
    alert = {key: _text(event, key, key) for key in ("dag_name", "run_id", "logical_date", "release_id", "log_url")}
    if not _line(alert["dag_name"] or ""):
        raise InvalidPayloadError("dag_name: missing or blank; it must name the pipeline that failed")
    failed = event.get("failed")
    if not isinstance(failed, list | None):
        raise InvalidPayloadError(f"failed: must be a list, not {type(failed).__name__}")
    alert["failed"] = [_validated_node(node, f"failed[{number}]") for number, node in enumerate(failed or [])]
    return alert


def _validated_node(node: Any, where: str) -> dict[str, Any]:
    if not isinstance(node, dict):
        raise InvalidPayloadError(f"{where}: must be a JSON object, not {type(node).__name__}")
    checked: dict[str, Any] = {key: _text(node, key, f"{where}.{key}") for key in ("unique_id", "status", "message")}
    if not _line(checked["unique_id"] or ""):
        raise InvalidPayloadError(f"{where}.unique_id: missing or blank; it must name what failed")
    tries = node.get("try_number")
    if not isinstance(tries, int | None) or isinstance(tries, bool):
        raise InvalidPayloadError(f"{where}.try_number: must be a whole number, not {type(tries).__name__}")
    return {**checked, "try_number": tries}


def _text(mapping: dict[str, Any], key: str, where: str) -> str | None:
    value = mapping.get(key)
    if not isinstance(value, str | None):
        raise InvalidPayloadError(f"{where}: must be text, not {type(value).__name__}")
    return value
