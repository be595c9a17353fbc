"""`apply` uploads only changed files, in an order that never breaks the bucket."""

import secrets

import pytest

from mwaa_local.testing.artifacts import MANIFEST
from mwaa_pipelines.config_file import read_pipelines
from mwaa_release.apply import apply, rollback
from mwaa_release.bucket import Bucket
from mwaa_release.errors import DeployError, SetupError
from mwaa_release.plan import make_plan

PROJECT = {f"models/model_{number}.sql": f"select {number}" for number in range(12)} | {"manifest.json": MANIFEST}
FILES = {"dags/pipelines.py": "1", "dags/parts/__init__.py": "", "requirements.txt": "r", "startup.sh": "s"}
ENVIRONMENTS = """
pipelines:
  - dag_name: flights_pipeline
    project_name: flights
    redshift_connection_id: flights_redshift
    target_database: dev
    environments:
      dev: {schedule: null, target_schema: analytics_dev, secret_name: dev/dbt_user}
      prod: {schedule: "0 6 * * *", target_schema: analytics, secret_name: prod/dbt_user}
"""
ONE, TWO = "20260101T000001Z-abcdef1", "20260101T000002Z-abcdef1"


def test_first_apply_uploads_exactly_the_files_of_the_artifact(bucket, make_artifact, contents, live_release):
    artifact = make_artifact(1, PROJECT, FILES)
    applied = apply(artifact, bucket)
    assert live_release(bucket) == ONE == applied.releases["flights"]
    expected = {path: text.encode() for path, text in FILES.items()}
    expected |= {f"dags/dbt/flights/{ONE}/{path}": text.encode() for path, text in PROJECT.items()}
    expected[f"dags/dbt/flights/{ONE}/release.json"] = artifact.read_bytes(f"dags/dbt/flights/{ONE}/release.json")
    expected["dags/dbt/flights/CURRENT"] = f"{ONE}\n".encode()
    assert contents(bucket) == expected
    assert applied.plan.needs_environment_update == ["requirements.txt", "startup.sh"]


def test_promoted_artifact_is_the_same_in_both_buckets_but_not_its_settings(bucket, make_artifact, contents, tmp_path):
    artifact = make_artifact(1, PROJECT, FILES | {"dags/pipelines.yml": ENVIRONMENTS})
    production = Bucket(f"mwaa-{secrets.token_hex(6)}", bucket.s3)
    bucket.s3.create_bucket(Bucket=production.name)
    for environment in (bucket, production):
        apply(artifact, environment)
    assert contents(bucket) == contents(production)
    path = tmp_path / "pipelines.yml"
    path.write_bytes(contents(production)["dags/pipelines.yml"])
    settings = [read_pipelines(path, environment=name).pipelines[0] for name in ("dev", "prod")]
    assert [(pipeline.schedule, pipeline.target_schema, pipeline.secret_name) for pipeline in settings] == [
        (None, "analytics_dev", "dev/dbt_user"),
        ("0 6 * * *", "analytics", "prod/dbt_user"),
    ]


def test_unchanged_content_creates_no_release_and_uploads_nothing(bucket, make_artifact, contents):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    before = contents(bucket)
    again = apply(make_artifact(2, PROJECT, FILES), bucket)
    assert not again.changed
    assert again.uploaded == again.copied == again.deleted == 0
    assert again.releases == {"flights": ONE}
    assert contents(bucket) == before


def test_changed_model_is_uploaded_and_other_files_are_copied_inside_s3(bucket, make_artifact, live_release):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    artifact = make_artifact(2, PROJECT | {"models/model_3.sql": "select 33"}, FILES)
    plan = make_plan(artifact, bucket)
    assert [file.path for file in plan.projects[0].uploads] == ["models/model_3.sql"]
    applied = apply(artifact, bucket)
    # The model and release.json. CURRENT is not counted.
    assert applied.uploaded == 2
    assert applied.copied == len(PROJECT) - 1
    assert live_release(bucket) == TWO


def test_removed_dag_file_is_deleted_and_unmanaged_files_are_kept(bucket, make_artifact, contents):
    apply(make_artifact(1, PROJECT, FILES | {"dags/old.py": "old"}), bucket)
    bucket.s3.put_object(Bucket=bucket.name, Key="dags/theirs.py", Body=b"theirs")
    applied = apply(make_artifact(2, PROJECT, FILES | {"dags/pipelines.py": "2"}), bucket)
    actual = contents(bucket)
    assert applied.plan.deleted == ["dags/old.py"]
    assert applied.plan.unmanaged == ["dags/theirs.py"]
    assert [file.path for file in applied.plan.changed] == ["dags/pipelines.py"]
    assert "dags/old.py" not in actual
    assert actual["dags/theirs.py"] == b"theirs"
    assert actual["dags/pipelines.py"] == b"2"
    assert applied.releases == {"flights": ONE}


def test_five_newest_releases_and_the_live_release_are_kept(bucket, make_artifact, live_release):
    def release(second: int) -> None:
        apply(make_artifact(second, PROJECT | {"models/new.sql": str(second)}, FILES), bucket)

    def remaining() -> list[int]:
        names = {key.split("/")[3] for key in bucket.sizes("dags/dbt/flights/") if key.count("/") > 3}
        return sorted(int(name[13:15]) for name in names)

    for second in range(1, 9):
        release(second)
    assert remaining() == [4, 5, 6, 7, 8]
    rollback(bucket, "flights", "20260101T000004Z-abcdef1")
    assert live_release(bucket) == "20260101T000004Z-abcdef1"
    # Running tasks still read the release that was live.
    release(9)
    assert remaining() == [4, 5, 6, 7, 8, 9]


def test_rollback_and_rolling_forward_again_need_no_upload(bucket, make_artifact, contents, live_release):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    before = contents(bucket)
    second = make_artifact(2, PROJECT | {"models/model_3.sql": "select 33"}, FILES)
    apply(second, bucket)
    assert rollback(bucket, "flights") == (TWO, ONE)
    assert live_release(bucket) == ONE
    after = contents(bucket)
    assert {key: after[key] for key in before} == before
    forward = apply(second, bucket)
    assert forward.uploaded == forward.copied == 0
    assert live_release(bucket) == TWO


def test_rollback_to_a_missing_release_names_the_available_ones(bucket, make_artifact, live_release):
    with pytest.raises(SetupError, match="has no release"):
        rollback(bucket, "flights")
    apply(make_artifact(1, PROJECT, FILES), bucket)
    with pytest.raises(DeployError, match="no release before"):
        rollback(bucket, "flights")
    with pytest.raises(DeployError, match=f"20250101T000000Z-abcdef1 is not in .*{ONE}"):
        rollback(bucket, "flights", "20250101T000000Z-abcdef1")
    apply(make_artifact(2, PROJECT | {"models/model_3.sql": "x"}, FILES), bucket)
    bucket.delete([f"dags/dbt/flights/{ONE}/models/model_1.sql"])
    with pytest.raises(DeployError, match=r"damaged.*model_1\.sql"):
        rollback(bucket, "flights", ONE)
    assert live_release(bucket) == TWO


@pytest.mark.parametrize("damage", [b"select 4", None], ids=["same size", "gone"])
def test_drifted_file_of_the_live_release_is_reported_and_replaced(bucket, make_artifact, live_release, damage):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    key = f"dags/dbt/flights/{ONE}/models/model_3.sql"
    if damage is None:
        bucket.delete([key])
    else:
        bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=damage)
    assert make_plan(make_artifact(2, PROJECT, FILES), bucket).drifted == [key]
    apply(make_artifact(3, PROJECT, FILES), bucket)
    assert live_release(bucket) == "20260101T000003Z-abcdef1"


@pytest.mark.parametrize("change", [b"select 4", None], ids=["same size", "gone"])
def test_file_that_changes_during_the_apply_is_uploaded(bucket, make_artifact, live_release, change):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    key = f"dags/dbt/flights/{ONE}/models/model_1.sql"

    def change_source(**_):
        if change is None:
            bucket.s3.delete_object(Bucket=bucket.name, Key=key)
        else:
            bucket.s3.put_object(Bucket=bucket.name, Key=key, Body=change)

    bucket.s3.meta.events.register("before-call.s3.CopyObject", change_source)
    applied = apply(make_artifact(2, PROJECT | {"models/model_3.sql": "select 33"}, FILES), bucket)
    # Both models and release.json.
    assert (applied.uploaded, applied.copied) == (3, len(PROJECT) - 2)
    assert live_release(bucket) == TWO


def test_unreadable_current_file_is_replaced(bucket, make_artifact, live_release):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    bucket.s3.put_object(Bucket=bucket.name, Key="dags/dbt/flights/CURRENT", Body=b"\xff")
    apply(make_artifact(2, PROJECT, FILES), bucket)
    assert live_release(bucket) == TWO


def test_drifted_dag_file_is_restored(bucket, make_artifact, contents):
    apply(make_artifact(1, PROJECT, FILES), bucket)
    bucket.s3.put_object(Bucket=bucket.name, Key="dags/pipelines.py", Body=b"x")
    plan = make_plan(make_artifact(2, PROJECT, FILES), bucket)
    assert [file.path for file in plan.changed] == plan.drifted == ["dags/pipelines.py"]
    # A change by the release itself is not drift.
    assert make_plan(make_artifact(2, PROJECT, FILES | {"requirements.txt": "r2"}), bucket).drifted == plan.drifted
    apply(make_artifact(2, PROJECT, FILES), bucket)
    assert contents(bucket)["dags/pipelines.py"] == b"1"


def test_apply_does_not_change_other_projects_in_the_bucket(bucket, make_artifact, contents):
    apply(make_artifact(1, PROJECT, FILES, name="other"), bucket)
    before = contents(bucket)
    apply(make_artifact(2, PROJECT, FILES), bucket)
    after = contents(bucket)
    assert {key: after[key] for key in before} == before


def test_artifact_that_was_changed_after_its_build_is_rejected(make_artifact):
    artifact = make_artifact(1, PROJECT, FILES)
    (artifact.folder / artifact.releases[0].prefix / "manifest.json").write_text("{ }")
    with pytest.raises(DeployError, match="it was changed; build again"):
        type(artifact).read(artifact.folder)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("[]", "is not a dbt manifest"),
        ('{"metadata": {"project_name": "other"}, "nodes": {}}', "belongs to project 'other', not 'flights'"),
        (
            '{"metadata": {"project_name": "flights"}, "nodes": {"model.flights.x": {"package_name": "flights", '
            '"original_file_path": "models/gone.sql"}}}',
            r"lists models/gone\.sql, which is missing in the release",
        ),
    ],
)
def test_manifest_that_does_not_match_its_project_is_rejected(make_artifact, manifest, message):
    with pytest.raises(DeployError, match=message):
        make_artifact(1, PROJECT | {"manifest.json": manifest}, FILES)


def test_missing_bucket_is_an_error_that_names_it(bucket, make_artifact):
    missing_bucket = type(bucket)("no-such-bucket-here", bucket.s3)
    with pytest.raises(SetupError, match=r"no-such-bucket-here.*does not exist"):
        apply(make_artifact(1, PROJECT, FILES), missing_bucket)


def test_missing_lambda_zip_is_an_error(bucket, make_artifact):
    with pytest.raises(SetupError, match=r"has no lambda\.zip"):
        apply(make_artifact(1, PROJECT, FILES), bucket, lambda_functions=["sns_notification"])


def test_lambda_function_code_is_updated_only_if_it_changed(aws, bucket, make_artifact, deploy):
    from mwaa_local.aws.seed import seed  # the function of the stand-in
    from mwaa_local.settings import Passwords

    aws.settings.state.mkdir(exist_ok=True)
    seed(aws.settings, Passwords.generate(aws.settings.state), "127.0.0.1", 1)
    artifact = make_artifact(1, PROJECT, FILES)
    (artifact.folder / "lambda.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    client = aws.client("lambda")
    role = client.get_function_configuration(FunctionName="sns_notification")["Role"]
    client.create_function(
        FunctionName="second",
        Runtime="python3.12",
        Handler="x.y",
        Role=role,
        Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
    )
    names = ["sns_notification"]
    assert apply(artifact, bucket, lambda_client=client, lambda_functions=names).functions_updated == names
    assert apply(artifact, bucket, lambda_client=client, lambda_functions=names).functions_updated == []
    (artifact.folder / "lambda.zip").write_bytes(b"PK\x05\x06" + bytes(16) + b"\x01\x00x")
    command = ["apply", f"--bucket={bucket.name}", f"--artifact={artifact.folder}"]
    for state in ("updated", "unchanged"):
        code, messages = deploy(*command, DEPLOY_LAMBDA_FUNCTION="sns_notification second")
        assert code == 0, messages
        assert f"sns_notification: code {state}" in messages
        assert f"second: code {state}" in messages
    code, messages = deploy(*command, DEPLOY_LAMBDA_FUNCTION="")
    assert code == 0, messages
    assert "code un" not in messages
    with pytest.raises(DeployError, match=r"Lambda function nobody: ResourceNotFound"):
        apply(artifact, bucket, lambda_client=client, lambda_functions=["nobody"])
