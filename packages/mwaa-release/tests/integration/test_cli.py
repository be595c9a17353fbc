"""Output and exit codes of the commands that people and workflows run."""

import typer

from mwaa_local.testing.artifacts import MANIFEST
from mwaa_release.account import only_buckets_of
from mwaa_release.cli import app
from mwaa_release.release import sha256

PROJECT = {"models/one.sql": "select 1", "manifest.json": MANIFEST}
FILES = {"dags/pipelines.py": "1", "requirements.txt": "r"}
ONE = "20260101T000001Z-abcdef1"


def test_plan_apply_status_and_rollback_report_each_release(deploy, bucket, make_artifact):
    one, two = make_artifact(1, PROJECT, FILES), make_artifact(2, PROJECT | {"models/one.sql": "select 2"}, FILES)
    code, text = deploy("plan", "--bucket", bucket.name, "--artifact", str(one.folder))
    assert code == 0
    assert f"flights: none → {ONE}: 2 files to upload" in text
    assert "+ dags/pipelines.py" in text
    assert "requirements.txt: takes effect after an update of the environment" in text
    assert bucket.sizes("") == {}
    code, text = deploy("apply", "--bucket", bucket.name, "--artifact", str(one.folder))
    assert code == 0
    assert "Done: 5 uploaded, 0 copied inside S3, 0 deleted." in text
    code, text = deploy("apply", "--bucket", bucket.name, "--artifact", str(one.folder))
    assert code == 0
    assert f"nothing changed, {ONE} stays live" in text
    assert "up to date" in text
    code, text = deploy("apply", "--bucket", bucket.name, "--artifact", str(two.folder))
    assert code == 0
    assert "  ~ models/one.sql" in text
    code, text = deploy("status", "--bucket", bucket.name)
    assert code == 0
    assert "live release 20260101T000002Z-abcdef1" in text
    assert f"can be rolled back to {ONE}" in text
    code, text = deploy("rollback", "--bucket", bucket.name, "--project", "flights")
    assert code == 0
    assert f"20260101T000002Z-abcdef1 → {ONE}" in text
    assert deploy("rollback", "--bucket", bucket.name, "--project", "flights")[0] == 1


def test_plan_against_another_artifact_needs_no_aws(deploy, make_artifact):
    one = make_artifact(1, PROJECT, FILES | {"dags/old.py": "1"})
    two = make_artifact(2, PROJECT | {"models/one.sql": "select 2"}, FILES | {"dags/pipelines.py": "2"})
    no_aws = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    code, text = deploy("plan", "--artifact", str(two.folder), "--against", str(one.folder), **no_aws)
    assert code == 0
    output = [line for line in text.splitlines() if line.lstrip().startswith(("+", "-", "~", "flights"))]
    assert output == [
        f"flights: {ONE} → 20260101T000002Z-abcdef1: 1 files to upload, 1 unchanged",
        "  ~ models/one.sql",
        "~ dags/pipelines.py",
        "- dags/old.py",
    ]


def test_setup_errors_are_one_message_and_exit_code_2(deploy, make_artifact, tmp_path):
    artifact = ("--artifact", str(make_artifact(1, PROJECT, FILES).folder))
    for arguments, environment, messages in (
        (("plan", "--bucket", "not-there-at-all", *artifact), {}, "the bucket does not exist"),
        (("plan", "--bucket", "b"), {}, "run: python -m mwaa_release build"),
        (("plan", *artifact), {}, "--bucket (DEPLOY_BUCKET) or --against"),
        (("build", str(tmp_path)), {}, "no dbt_project.yml"),
        (
            ("apply", "--bucket", "any", *artifact),
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "no AWS credentials",
        ),
        (
            ("status", "--bucket", "any"),
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
            "check the network",
        ),
        (("sample-data", "--bucket", "any", "--no-upload"), {}, "set REDSHIFT_HOST"),
        (
            ("sample-data", "--bucket", "any", "--no-upload"),
            {
                "REDSHIFT_HOST": "127.0.0.1",
                "REDSHIFT_USER": "u",
                "REDSHIFT_PASSWORD": "p",
                "REDSHIFT_SSLMODE": "verify-fulll",
            },
            "REDSHIFT_SSLMODE='verify-fulll'",
        ),
        (("warehouse-user", "--secret-name", "no/such"), {}, "reading the secret no/such"),
    ):
        code, text = deploy(*arguments, **environment)
        assert messages in text, (arguments, text)
        assert code == (1 if "secret" in messages else 2), (arguments, text)


def test_wrong_account_is_rejected_before_any_read_or_write(deploy, bucket, make_artifact):
    artifact = ("--artifact", str(make_artifact(1, PROJECT, FILES).folder))
    for command in (("plan", *artifact), ("apply", *artifact), ("status",), ("rollback", "--project", "flights")):
        code, text = deploy(*command, "--bucket", bucket.name, DEPLOY_ACCOUNT_ID="999999999999")
        assert code == 2
        assert "belong to account 123456789012, not 999999999999" in text
    assert bucket.sizes("") == {}
    code, text = deploy("status", "--bucket", bucket.name, "--account", "12345")
    assert (code, "must have twelve digits" in text) == (2, True)
    code, text = deploy("apply", "--bucket", bucket.name, *artifact, "--account", "123456789012")
    assert code == 0, text


def test_s3_requests_name_the_expected_bucket_owner(bucket):
    bucket_owners = []
    bucket.s3.meta.events.register(
        "before-send.s3", lambda request, **_: bucket_owners.append(request.headers.get("x-amz-expected-bucket-owner"))
    )
    only_buckets_of(bucket.s3, "123456789012")
    bucket.put("dags/x.py", b"x", sha256(b"x"))
    bucket.copy("dags/x.py", "dags/y.py", sha256(b"x"))
    bucket.sizes("")
    bucket.delete(["dags/x.py"])
    assert set(bucket_owners) == {b"123456789012"}


def test_broken_model_is_exit_code_1(deploy, toy_repository, tmp_path):
    (toy_repository / "dbt_project/models/broken.sql").write_text("select * from {{ ref('nowhere') }}")
    code, text = deploy("build", str(toy_repository / "dbt_project"), "--output", str(tmp_path / "out"))
    assert code == 1
    assert "models/broken.sql" in text
    assert not (tmp_path / "out").exists()


def test_every_command_and_option_has_a_help_text():
    commands = typer.main.get_command(app).commands
    assert set(commands) >= {"build", "plan", "apply", "status", "rollback", "smoke", "teardown", "freshness", "report"}
    for name, command in commands.items():
        assert len(command.help.splitlines()[0]) > 20, name
        assert all(parameter.help for parameter in command.params if parameter.param_type_name == "option"), name
