"""release.json, release IDs, and readable errors of AWS."""

import threading
import time

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, NoRegionError

from mwaa_release.bucket import PARALLEL, Bucket, in_parallel
from mwaa_release.errors import DeployError, SetupError, from_aws
from mwaa_release.release import RELEASE_ID, File, Release, sha256

RELEASE = Release(
    "20260101T000001Z-abcdef1", "flights", "abcdef1", "now", "1.11", (File("b", 2, "22"), File("a", 1, "1"))
)


def test_release_json_can_be_read_back():
    assert Release.from_json(RELEASE.to_json(), "x") == RELEASE


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"files": 1}', b"\xff"])
def test_invalid_release_json_is_an_error_that_names_the_file(text):
    with pytest.raises(DeployError, match=r"here is not a release\.json"):
        Release.from_json(text, "here")


def test_content_hash_depends_only_on_paths_and_file_hashes():
    def content(*files: File) -> str:
        return Release("other", "flights", "other", "later", "2", files).content_sha256

    first, second = RELEASE.files
    assert content(second, first) == RELEASE.content_sha256
    assert content(first) != RELEASE.content_sha256
    assert content(first, File("a", 1, "2")) != RELEASE.content_sha256
    assert content(first, File("c", 1, "1")) != RELEASE.content_sha256


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("20260101T000001Z-abcdef1", True),
        ("20260101T000001Z-abcdef1-dirty", True),
        ("20260101T000001Z-unknown", True),
        ("CURRENT", False),
        ("20260101T000001Z-ABCDEF1", False),
        ("../20260101T000001Z-abcdef1", False),
        ("20260101T000001Z-abcdef1\n", False),
    ],
)
def test_release_id_has_a_fixed_format(name, valid):
    assert bool(RELEASE_ID.fullmatch(name)) is valid


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "words"}}, "PutObject")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (NoCredentialsError(), SetupError, "sign in first"),
        (NoRegionError(), SetupError, "set AWS_REGION"),
        (EndpointConnectionError(endpoint_url="http://x"), SetupError, "check the network"),
        (client_error("NoSuchBucket"), SetupError, "--bucket"),
        (client_error("AccessDenied"), SetupError, r"access denied by AWS \(PutObject\)"),
        (client_error("ExpiredToken"), SetupError, "expired"),
        (client_error("SlowDown"), DeployError, "SlowDown: words"),
    ],
)
def test_aws_errors_name_the_action_and_the_fix(error, kind, message):
    error_raised = from_aws(error, "uploading s3://b/k")
    assert type(error_raised) is kind
    with pytest.raises(kind, match=f"^uploading s3://b/k: .*{message}"):
        raise error_raised


class DeniedS3:
    """An S3 client that denies every request."""

    def __getattr__(self, operation):
        def refuse(*_, **__):
            status = {"HTTPStatusCode": 403}
            raise ClientError(
                {"Error": {"Code": "AccessDenied", "Message": "no"}, "ResponseMetadata": status}, operation
            )

        return refuse


@pytest.mark.parametrize(
    "send_request",
    [
        lambda bucket: bucket.sizes("k"),
        lambda bucket: bucket.read("k"),
        lambda bucket: bucket.describe("k"),
        lambda bucket: bucket.put("k", b"", sha256(b"")),
        lambda bucket: bucket.put_if("k", b"", None),
        lambda bucket: bucket.copy("k", "to", sha256(b"")),
        lambda bucket: bucket.delete(["k"]),
    ],
    ids=["sizes", "read", "describe", "put", "put_if", "copy", "delete"],
)
def test_denied_request_is_not_treated_as_a_missing_file(send_request):
    with pytest.raises(SetupError, match=r"s3://b/k\b.*access denied"):
        send_request(Bucket("b", DeniedS3()))


def test_keys_are_deleted_in_batches_that_s3_accepts():
    class S3:
        def __init__(self):
            self.batches, self.errors = [], []

        def delete_objects(self, Bucket, Delete):  # noqa: N803 - as boto3
            self.batches.append([entry["Key"] for entry in Delete["Objects"]])
            return {"Errors": self.errors} if self.errors else {}

    s3, keys = S3(), [f"dags/{number}.py" for number in range(2001)]
    Bucket("b", s3).delete(keys)
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
    assert [len(batch) for batch in s3.batches] == [1000, 1000, 1]
    assert [key for batch in s3.batches for key in batch] == keys
    s3.errors = [{"Key": "dags/1.py", "Code": "AccessDenied", "Message": "no"}]
    with pytest.raises(DeployError, match=r"^deleting s3://b/dags/1\.py: AccessDenied: no$"):
        Bucket("b", s3).delete(keys[:2])


def test_parallel_jobs_return_in_order_and_report_progress():
    counts = []
    assert in_parallel([lambda n=n: n for n in range(50)], counts.append) == list(range(50))
    assert counts[-1] == 50


def test_no_further_job_starts_after_a_failure():
    started = []
    gate = threading.Event()

    def job(number: int) -> None:
        started.append(number)
        if number == 0:
            raise ValueError("first")
        gate.wait(5)

    def open_later() -> None:
        time.sleep(0.3)
        gate.set()

    threading.Thread(target=open_later).start()
    with pytest.raises(ValueError, match="first"):
        in_parallel([lambda n=n: job(n) for n in range(200)])
    assert len(started) <= 2 * PARALLEL
