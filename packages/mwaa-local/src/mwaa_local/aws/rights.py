"""Which rights of IAM a call needs: actions, resources, and what conditions can be about.

Where an action is not that of the operation's own name, or is about a resource, a table here says so. What stands in
none of them is asked for on the resource `*`, so that only a statement about everything allows it.
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
"""

from collections.abc import Callable
from typing import Any

from moto.backends import get_backend
from moto.s3.models import FakeKey

from mwaa_local.aws.calls import Call
from mwaa_local.aws.policies import Right, Statement, statements

# The rights of a call, all of which it needs; of each, one of several will do.
Rights = list[list[Right]]

_S3_ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListBuckets": "ListAllMyBuckets",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListParts": "ListMultipartUploadParts",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
}
_VERSIONED = {"GetObject": "GetObjectVersion", "DeleteObject": "DeleteObjectVersion"}
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html
_KMS_OF_S3 = {
    "GetObject": ("Decrypt",),
    "PutObject": ("GenerateDataKey",),
    "CopyObject": ("Decrypt", "GenerateDataKey"),
    **dict.fromkeys(
        ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"),
        ("GenerateDataKey", "Decrypt"),
    ),
}
# https://docs.aws.amazon.com/mwaa/latest/userguide/access-policies.html
_AIRFLOW_ROLES = ("User", "Op", "Admin", "Viewer", "Public")
_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "lambda:InvokeAsync": "lambda:InvokeFunction"}


def rights(call: Call, account: str) -> Rights:
    """What a call of somebody of `account` needs."""
    action = f"{call.service}:{call.operation}"
    if call.service == "s3":
        return [[each] for each in _s3(call)]
    if action == "sts:GetCallerIdentity":
        return []
    if action == "airflow:InvokeRestApi":
        where = f"arn:aws:airflow:{call.region}:{account}:role/{call.parameters['Name']}"
        return [[Right(action, f"{where}/{role}") for role in _AIRFLOW_ROLES]]
    find = _RESOURCES.get(call.service)
    found = find(call, account) if find else ["*"]
    context = _CONTEXTS.get(action, lambda _: {})(call.parameters)
    needed = [[Right(_ACTIONS.get(action, action), each, context)] for each in found]
    return needed + [[each] for each in _FURTHER.get(action, lambda *_: [])(call, account)]


def role(arn: str) -> Any:
    """The role as moto has it; None if nobody has made it."""
    account = arn.split(":")[4] if arn.count(":") > 4 else ""
    known = get_backend("iam")[account]["aws"].roles.values() if account.isdigit() else ()
    return next((each for each in list(known) if each.arn == arn), None)


def own_policy(resource: str) -> tuple[list[Statement] | None, str | None]:
    """The policy that a resource itself has, None if it has none, and the account that it is in, if it says so."""
    _, _, service, region, account, name = (*resource.split(":", 5), "", "", "", "", "", "")[:6]
    try:
        if service == "s3":
            bucket = _bucket(name.partition("/")[0])
            return (statements(bucket.policy.decode()) if bucket.policy else None), bucket.account_id
        if service == "kms":
            key = get_backend("kms")[account][region].describe_key(name.removeprefix("key/"))
            return statements(key.policy), account
        if service == "secretsmanager":
            secret = get_backend("secretsmanager")[account][region].secrets[resource]
            return (statements(secret.policy) if secret.policy else None), account
        if service == "lambda":
            function = get_backend("lambda")[account][region].get_function(resource)
            return (function.policy.statements or None), account
        if service == "iam" and name.startswith("role/"):
            # One that is not there trusts nobody.
            found = role(resource)
            return (statements(found.assume_role_policy_document) if found else []), account
    except Exception:  # noqa: BLE001 - moto's errors for what is not there have no common class; the service says so itself
        return None, account or None
    return None, account or None


def _s3(call: Call) -> list[Right]:
    given, operation = call.parameters, call.operation
    bucket = given.get("Bucket", "")
    if not bucket:
        return [Right(f"s3:{_S3_ACTIONS.get(operation, operation)}", "*")]
    arn = f"arn:aws:s3:::{bucket}"
    action = _S3_ACTIONS.get(operation, operation)
    context = {"s3:prefix": given.get("Prefix", "")} if action == "ListBucket" else {}
    if operation == "DeleteObjects":
        found = [
            Right("s3:DeleteObjectVersion" if each.get("VersionId") else "s3:DeleteObject", f"{arn}/{each['Key']}")
            for each in given["Delete"]["Object"]
        ]
    else:
        if "VersionId" in given:
            action = _VERSIONED.get(action, action)
        found = [Right(f"s3:{action}", f"{arn}/{given['Key']}" if "Key" in given else arn, context)]
    if "CopySource" in given:
        source, _, version = given["CopySource"].lstrip("/").partition("?versionId=")
        found.append(Right("s3:GetObjectVersion" if version else "s3:GetObject", f"arn:aws:s3:::{source}"))
    # That an object is missing, S3 tells those who may list.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    if operation in ("GetObject", "HeadObject") and not _there(bucket, given["Key"]):
        found.append(Right("s3:ListBucket", arn))
    kinds = _KMS_OF_S3.get(operation, ())
    # S3 opens the object to tell its checksum.
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    if operation == "HeadObject" and "ChecksumMode" in given:
        kinds = ("Decrypt",)
    return found + (_kms(_key_of(bucket), kinds, "s3", call.region) if kinds else [])


def _bucket(name: str) -> Any:
    backends = get_backend("s3")
    partition, account = backends.bucket_accounts[name]
    return backends[account][partition].get_bucket(name)


def _there(bucket: str, key: str) -> bool:
    try:
        return key in (keys := _bucket(bucket).keys) and isinstance(keys[key], FakeKey)
    except KeyError:
        return False


def _key_of(bucket: str) -> str | None:
    """The KMS key that a bucket encrypts with by default, if it does."""
    try:
        rule = (_bucket(bucket).encryption or {})["Rule"]
    except KeyError:
        return None
    return rule["ApplyServerSideEncryptionByDefault"].get("KMSMasterKeyID")


def _kms(key: str | None, kinds: tuple[str, ...], service: str, region: str) -> list[Right]:
    """What whoever uses a service needs for the key that the service uses in his name."""
    if not key or key.startswith("alias/aws/"):
        return []
    context = {"kms:ViaService": f"{service}.{region}.amazonaws.com"}
    return [Right(f"kms:{kind}", key, context) for kind in kinds]


def _secret(call: Call, account: str) -> list[str]:
    name = call.parameters.get("SecretId", "*")
    store = get_backend("secretsmanager")[account][call.region].secrets
    arn = f"arn:aws:secretsmanager:{call.region}:{account}:secret:{name}"
    return [store[name].arn if name in store else name if name.startswith("arn:") else arn]


def _key_of_secret(call: Call, account: str) -> list[Right]:
    store = get_backend("secretsmanager")[account][call.region].secrets
    name = call.parameters.get("SecretId", "")
    key = store[name].kms_key_id if name in store else None
    return _kms(key, ("Decrypt",), "secretsmanager", call.region)


def _function(call: Call, account: str) -> list[str]:
    name = call.parameters.get("FunctionName", "*").rpartition(":function:")[2]
    if qualifier := call.parameters.get("Qualifier"):
        name += f":{qualifier}"
    return [f"arn:aws:lambda:{call.region}:{account}:function:{name}"]


def _queue(call: Call, account: str) -> list[str]:
    owner, _, name = call.parameters.get("QueueUrl", "").rpartition("/")
    name = name or call.parameters.get("QueueName", "*")
    return [f"arn:aws:sqs:{call.region}:{owner.rpartition('/')[2] or account}:{name}"]


def _environment(call: Call, account: str) -> list[str]:
    name = call.parameters.get("Name")
    return [f"arn:aws:airflow:{call.region}:{account}:environment/{name}" if name else "*"]


def _login(call: Call, account: str) -> list[str]:
    given = call.parameters
    if not call.operation.startswith("GetClusterCredentials"):
        return ["*"]
    where = f"arn:aws:redshift:{call.region}:{account}"
    cluster = given.get("ClusterIdentifier", "*")
    found = [f"{where}:dbuser:{cluster}/{given['DbUser']}"] if "DbUser" in given else []
    return found + ([f"{where}:dbname:{cluster}/{given['DbName']}"] if "DbName" in given else []) or ["*"]


def _further_user(call: Call, account: str) -> list[Right]:
    made = call.parameters.get("AutoCreate", "").lower() == "true"
    return [Right("redshift:CreateClusterUser", _login(call, account)[0])] if made else []


def _files_of_environment(call: Call, _account: str) -> list[Right]:
    """MWAA looks at the object versions that an environment is to take with the caller's rights."""
    paths = [call.parameters.get(f"{name}S3Path") for name in ("Requirements", "StartupScript", "Plugins")]
    bucket = call.parameters.get("SourceBucketArn", "")
    return [Right("s3:GetObjectVersion", f"{bucket}/{path}") for path in paths if path and bucket]


def _encrypted_topic(call: Call, account: str) -> list[Right]:
    topics = get_backend("sns")[account][call.region].topics
    topic = topics.get(call.parameters.get("TopicArn", ""))
    key = topic.kms_master_key_id if topic else None
    return _kms(key, ("GenerateDataKey", "Decrypt"), "sns", call.region)


def _of(name: str) -> Callable[[Call, str], list[str]]:
    return lambda call, _account: [call.parameters.get(name) or "*"]


_RESOURCES: dict[str, Callable[[Call, str], list[str]]] = {
    "secretsmanager": _secret,
    "lambda": _function,
    "sqs": _queue,
    "airflow": _environment,
    "redshift": _login,
    "sns": _of("TopicArn"),
    "sts": _of("RoleArn"),
    "kms": _of("KeyId"),
}
_CONTEXTS: dict[str, Callable[[dict[str, Any]], dict[str, str]]] = {
    "sts:AssumeRole": lambda given: {"sts:ExternalId": given["ExternalId"]} if "ExternalId" in given else {},
}
_FURTHER: dict[str, Callable[[Call, str], list[Right]]] = {
    "secretsmanager:GetSecretValue": _key_of_secret,
    "airflow:UpdateEnvironment": _files_of_environment,
    "sns:Publish": _encrypted_topic,
    "redshift:GetClusterCredentials": _further_user,
}
