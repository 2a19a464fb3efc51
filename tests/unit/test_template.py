"""What users and the code rely on in template.yaml."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import botocore.session
import cfnlint.api
import cfnlint.config
import pytest

from local.package import ROOT
from tests import cloudformation
from tests.conftest import TABLE_SCHEMA, UPLOADS
from transcoding import settings
from transcoding.api.parameters import QUALITY, RefusedError
from transcoding.data.records import Attention, ByMonth, ByPeriod, Record
from transcoding.media.planning.formats import FORMATS
from transcoding.model import MAX_TRIES
from transcoding.service.callbacks import PATIENCE, SECONDS

TEMPLATE = cloudformation.TEMPLATE
RESOURCES: dict[str, dict[str, Any]] = TEMPLATE["Resources"]
GLOBALS = TEMPLATE["Globals"]["Function"]
FUNCTIONS = {
    name: resource["Properties"]
    for name, resource in RESOURCES.items()
    if resource["Type"] == "AWS::Serverless::Function"
}
CALLS = {
    "CreateTranscodeFunction": ("post", "create-transcode"),
    "GetTranscodesFunction": ("get", "get-transcodes"),
    "GetTranscodeFunction": ("get", "get-transcode"),
    "DeleteTranscodeFunction": ("post", "delete-transcode"),
    "DeleteTranscodesFunction": ("post", "delete-transcodes"),
    "CreateUploadFunction": ("post", "create-upload"),
    "CompleteUploadFunction": ("post", "complete-upload"),
}
SETTINGS: dict[str, type[settings.Settings]] = {
    "CreateTranscodeFunction": settings.CreateSettings,
    "GetTranscodesFunction": settings.ShowSettings,
    "GetTranscodeFunction": settings.ShowSettings,
    "DeleteTranscodeFunction": settings.DeleteSettings,
    "DeleteTranscodesFunction": settings.DeleteSettings,
    "ConsoleFunction": settings.ConsoleSettings,
    "CreateUploadFunction": settings.CreateUploadSettings,
    "CompleteUploadFunction": settings.UploadSettings,
    "WorkerFunction": settings.WorkerSettings,
    "DeadLetterFunction": settings.DeadLetterSettings,
    "SweepFunction": settings.SweepSettings,
    "NotifyFunction": settings.NotifySettings,
    "CallbackFunction": settings.CallbackSettings,
    "InboxFunction": settings.InboxSettings,
}
#: The watch folder, which is off by default.
INBOX = {"InboxFormat": "mp4"}
#: The contract's HTTP status for each answer that API Gateway gives by itself.
GATEWAY_STATUS = {
    "ACCESS_DENIED": 403,
    "API_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_CONFIGURATION_ERROR": 500,
    "AUTHORIZER_FAILURE": 500,
    "BAD_REQUEST_BODY": 400,
    "BAD_REQUEST_PARAMETERS": 400,
    "DEFAULT_4XX": 400,
    "DEFAULT_5XX": 500,
    "EXPIRED_TOKEN": 403,
    "INTEGRATION_FAILURE": 500,
    "INTEGRATION_TIMEOUT": 500,
    "INVALID_API_KEY": 403,
    "INVALID_SIGNATURE": 403,
    # An unknown path or method, for which API Gateway would say 403.
    "MISSING_AUTHENTICATION_TOKEN": 404,
    "QUOTA_EXCEEDED": 429,
    "REQUEST_TOO_LARGE": 413,
    "RESOURCE_NOT_FOUND": 404,
    "THROTTLED": 429,
    "UNAUTHORIZED": 403,
    "UNSUPPORTED_MEDIA_TYPE": 400,
    "WAF_FILTERED": 403,
}


SAMCONFIG = {
    name: settings_of_set
    for name, settings_of_set in tomllib.loads((ROOT / "samconfig.toml").read_text()).items()
    if isinstance(settings_of_set, dict)
}


def _overrides(environment: str) -> dict[str, str]:
    """The template's parameters in a set of settings of samconfig.toml."""
    pairs = SAMCONFIG[environment]["global"]["parameters"].get("parameter_overrides", [])
    return dict(pair.split("=", 1) for pair in pairs)


def _properties(name: str) -> dict[str, Any]:
    properties: dict[str, Any] = RESOURCES[name]["Properties"]
    return properties


def _of_type(type_: str) -> set[str]:
    return {name for name, resource in RESOURCES.items() if resource["Type"] == type_}


# The API.


def test_the_calls_are_the_contracts() -> None:
    api = _properties("Api")
    assert api["Auth"]["ApiKeyRequired"] is True
    for name, (method, call) in CALLS.items():
        (event,) = FUNCTIONS[name]["Events"].values()
        assert event["Type"] == "Api"
        assert event["Properties"]["Method"].lower() == method
        assert event["Properties"]["Path"] == f"/transcoding/api/{call}"


def test_every_type_of_gateway_response_is_known_here() -> None:
    model = botocore.session.get_session().get_service_model("apigateway")
    assert set(model.shape_for("GatewayResponseType").enum) == set(GATEWAY_STATUS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", GATEWAY_STATUS)
def test_what_api_gateway_answers_by_itself_has_the_envelope(kind: str) -> None:
    responses = _properties("Api")["GatewayResponses"]
    status = GATEWAY_STATUS[kind]
    fallback = "DEFAULT_5XX" if status >= 500 else "DEFAULT_4XX"
    response = responses.get(kind, responses[fallback])
    (template,) = response["ResponseTemplates"].values()
    rendered = template.replace("$context.error.messageString", r'"a \"quoted\" message"')
    rendered = rendered.replace("$context.requestId", "5e63a3c1-3a0e-4f0b-9c49-6f1b1f3f1c11")
    body = json.loads(rendered)

    assert response["StatusCode"] == str(status)
    assert body.keys() == {"errcode", "msg"}
    assert body["errcode"] == status + 1000
    assert body["msg"]
    assert "$" not in body["msg"]
    if status == 500:
        assert "5e63a3c1-3a0e-4f0b-9c49-6f1b1f3f1c11" in body["msg"]


def test_access_logs_are_json() -> None:
    line = re.sub(r"\$context[\w.]+", "x", _properties("Api")["AccessLogSetting"]["Format"])
    assert json.loads(line)["requestId"] == "x"


# The functions.


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_functions_environment_is_what_its_settings_read(name: str) -> None:
    own = FUNCTIONS[name].get("Environment", {}).get("Variables", {})
    given = {
        variable
        for variable in GLOBALS["Environment"]["Variables"] | own
        if not variable.startswith(("POWERTOOLS_", "AWS_"))
    }
    fields = dataclasses.fields(SETTINGS[name])
    required = {field.name.upper() for field in fields if field.default is dataclasses.MISSING}
    assert required <= given <= {field.name.upper() for field in fields}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_log_group_with_retention(name: str) -> None:
    group = _properties(FUNCTIONS[name]["LoggingConfig"]["LogGroup"]["Ref"])
    assert group["RetentionInDays"] == {"Ref": "LogRetentionDays"}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_handler(name: str) -> None:
    if name == "WorkerFunction":
        dockerfile = (ROOT / RESOURCES[name]["Metadata"]["Dockerfile"]).read_text()
        (handler,) = json.loads(dockerfile.rsplit("CMD ", 1)[1])
    else:
        handler = FUNCTIONS[name]["Handler"]
    module, _, attribute = handler.partition(".")
    assert f"def {attribute}(" in (ROOT / "functions" / f"{module}.py").read_text()


# Releases.

ALIASED = [name for name in FUNCTIONS if "AutoPublishAlias" not in RESOURCES[name].get("IgnoreGlobals", [])]
#: A second value of each parameter that has no list of them.
OTHERS = {
    "AlarmEmail": "ops@example.com",
    "ExtraSourceArns": "arn:aws:s3:::films,arn:aws:s3:::films/*",
    "OutputBaseUrl": "https://media.example.com",
    "OutputDistributionArn": "arn:aws:cloudfront::123456789012:distribution/E2QWRUHAPOMQZL",
    "OutputReaderArn": "arn:aws:iam::123456789012:role/cdn",
    "SourceKeyArns": "arn:aws:kms:eu-west-1:123456789012:key/1234abcd",
    "Timezone": "Europe/Berlin",
    "UploadOrigins": "https://films.example.com",
}


def _others(parameter: str) -> list[str]:
    """Values of a parameter that are not its default."""
    declared = TEMPLATE["Parameters"][parameter]
    if "AllowedValues" in declared:
        return [str(value) for value in declared["AllowedValues"] if value != declared["Default"]]
    if declared["Type"] == "Number":
        step = -1 if declared["Default"] == declared.get("MaxValue") else 1
        return [str(declared["Default"] + step)]
    return [OTHERS[parameter]]


def _published(stack: cloudformation.Stack, function: str) -> tuple[Any, Any]:
    """What a function is, and what makes CloudFormation publish it: its version's name and description."""
    ((name, version),) = (
        (name, version)
        for name, version in stack.of_type("AWS::Lambda::Version").items()
        if version["FunctionName"] == function
    )
    description = version.get("Description", "")
    assert len(description) <= 256
    # Concurrency is kept for the function, not for a version of it.
    properties = {k: v for k, v in stack.properties(function).items() if k != "ReservedConcurrentExecutions"}
    return properties, (name, description)


@pytest.mark.parametrize("parameter", TEMPLATE["Parameters"])
def test_a_parameter_reaches_the_functions_that_use_it(parameter: str) -> None:
    before = cloudformation.create()
    for value in _others(parameter):
        after = cloudformation.create({parameter: value})
        for function in ALIASED:
            (was, published), (is_now, publishes) = (_published(s, function) for s in (before, after))
            assert (was != is_now) == (published != publishes), (function, value)


def test_releases_are_at_once_unless_asked_for() -> None:
    stack = cloudformation.create()
    assert not any(r["Type"].startswith("AWS::CodeDeploy::") for r in stack.resources.values())
    assert not any("UpdatePolicy" in resource for resource in stack.resources.values())


@pytest.mark.parametrize("release", ["Canary10Percent10Minutes", "Linear10PercentEvery1Minute"])
def test_a_release_moves_back_when_the_api_fails(release: str) -> None:
    stack = cloudformation.create({"Release": release})
    groups = stack.of_type("AWS::CodeDeploy::DeploymentGroup")
    for name in CALLS:
        update = stack.resources[f"{name}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        group = groups.pop(update["DeploymentGroupName"])
        assert group["DeploymentConfigName"] == f"CodeDeployDefault.Lambda{release}"
        assert group["AlarmConfiguration"] == {"Enabled": True, "Alarms": [{"Name": "ApiErrorAlarm"}]}
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
        assert group["ServiceRoleArn"] == "ReleaseRole.Arn"
    assert not groups
    # It has to tell within the ten minutes.
    alarm = stack.properties("ApiErrorAlarm")
    assert alarm["Period"] * alarm["EvaluationPeriods"] <= 60


def test_a_release_has_its_workers_before_callers_can_ask_for_what_is_new() -> None:
    assert cloudformation.create().resources["CreateTranscodeFunction"]["DependsOn"] == "WorkerFunction"


def test_codedeploy_may_move_the_aliases_and_nothing_else() -> None:
    (policy,) = cloudformation.create().properties("ReleaseRole")["Policies"]
    move, watch = policy["PolicyDocument"]["Statement"]
    assert set(move["Resource"]) == {f"{name}.Arn{of_alias}" for name in CALLS for of_alias in ("", ":*")}
    actions = {"GetAlias", "GetProvisionedConcurrencyConfig", "UpdateAlias"}
    assert set(move["Action"]) == {f"lambda:{action}" for action in actions}
    assert watch["Action"] == "cloudwatch:DescribeAlarms"


def test_no_policy_is_managed_but_that_of_api_gateways_logs() -> None:
    roles = cloudformation.create({"Release": "Canary10Percent10Minutes"}).of_type("AWS::IAM::Role")
    assert {name for name, role in roles.items() if "ManagedPolicyArns" in role} == {"ApiGatewayLogRole"}


@pytest.mark.parametrize("environment", SAMCONFIG)
def test_what_is_deployed_has_no_errors(environment: str) -> None:
    """What only the transform shows: references in a circle, above all."""
    template = json.dumps(cloudformation.transformed(_overrides(environment)))
    config = cfnlint.config.ManualArgs(regions=["eu-west-1"], ignore_checks=["W"])
    assert cfnlint.api.lint(template, config=config) == []


# samconfig.toml.


@pytest.mark.parametrize("environment", SAMCONFIG)
def test_a_set_of_settings_has_values_that_the_template_takes(environment: str) -> None:
    overrides = _overrides(environment)
    assert cloudformation.refusals(overrides) == []
    for name, value in overrides.items():
        declared = TEMPLATE["Parameters"][name]
        if "AllowedValues" in declared:
            assert value in map(str, declared["AllowedValues"])
        else:
            assert declared["MinValue"] <= int(value) <= declared.get("MaxValue", int(value))


@pytest.mark.parametrize("environment", SAMCONFIG)
def test_build_and_deploy_have_the_same_parameters(environment: str) -> None:
    for command, settings_of_command in SAMCONFIG[environment].items():
        assert command == "global" or "parameter_overrides" not in settings_of_command["parameters"]


@pytest.mark.parametrize("environment", SAMCONFIG)
def test_a_stack_that_cannot_be_created_is_not_in_the_way(environment: str) -> None:
    assert SAMCONFIG[environment]["global"]["parameters"]["on_failure"] == "DELETE"


def test_a_new_account_has_enough_of_everything() -> None:
    stack = cloudformation.create(_overrides("newaccount"))
    functions = stack.of_type("AWS::Lambda::Function")
    assert all(int(properties["MemorySize"]) <= 3008 for properties in functions.values())
    assert not any("ReservedConcurrentExecutions" in properties for properties in functions.values())
    workers = int(stack.properties("WorkerFunctionJob")["ScalingConfig"]["MaximumConcurrency"])
    # Of the ten that run at once, as many are left for the API, the sweep and the dead letters.
    assert workers <= 5
    assert not any(r["Type"].startswith("AWS::CloudFront::") for r in stack.resources.values())


# Workflows.

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yaml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_of_others_are_pinned(path: Path) -> None:
    for used in re.findall(r"uses: (.*)", path.read_text()):
        assert used.startswith("./.github/") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used)


def test_the_stages_of_the_workflow_have_settings_that_ask_nobody() -> None:
    stages = re.findall(r"stage: (\w+)", (ROOT / ".github/workflows/deploy.yaml").read_text())
    assert stages == ["staging", "production"]
    for stage in stages:
        settings_of_stage = SAMCONFIG[stage]["global"]["parameters"]
        assert settings_of_stage["confirm_changeset"] is False
        assert settings_of_stage["stack_name"] == f"transcoding-{stage}"


# The queues.


@pytest.mark.parametrize(
    ("name", "queue", "batch"),
    [
        ("WorkerFunction", "JobQueue", 1),
        ("DeadLetterFunction", "DeadLetterQueue", 10),
        ("CallbackFunction", "CallbackQueue", 1),
        ("InboxFunction", "InboxQueue", 10),
    ],
)
def test_the_consumers_of_queues(name: str, queue: str, batch: int) -> None:
    (event,) = FUNCTIONS[name]["Events"].values()
    assert event["Type"] == "SQS"
    assert event["Properties"]["Queue"] == {"Fn::GetAtt": [queue, "Arn"]}
    assert event["Properties"]["BatchSize"] == batch
    assert event["Properties"]["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    timeout = FUNCTIONS[name].get("Timeout", GLOBALS["Timeout"])
    assert _properties(queue)["VisibilityTimeout"] > timeout


def test_a_job_is_given_up_only_after_all_attempts_and_kept_as_long_as_can_be() -> None:
    redrive = _properties("JobQueue")["RedrivePolicy"]
    # More often than a task has attempts: what cannot reach the table says nothing about the task.
    assert redrive["maxReceiveCount"] >= MAX_TRIES + 7
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert _properties("DeadLetterQueue")["MessageRetentionPeriod"] == 14 * 24 * 3600


def test_what_cannot_be_told_is_given_up_while_the_stream_still_has_it() -> None:
    (event,) = FUNCTIONS["NotifyFunction"]["Events"].values()
    mapping = event["Properties"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["MaximumRecordAgeInSeconds"] < 24 * 3600
    destination = mapping["DestinationConfig"]["OnFailure"]
    assert destination == {"Type": "SQS", "Destination": {"Fn::GetAtt": ["EventDeadLetterQueue", "Arn"]}}


def test_callbacks_are_kept_longer_than_they_are_tried() -> None:
    queue = _properties("CallbackQueue")
    assert queue["MessageRetentionPeriod"] > PATIENCE.total_seconds()
    # The function gives up by time, long before the queue does by tries.
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 1000
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == {"Fn::GetAtt": ["CallbackDeadLetterQueue", "Arn"]}
    assert GLOBALS["Timeout"] > SECONDS


# The watch folder.


def test_there_is_no_watch_folder_unless_asked_for() -> None:
    stack = cloudformation.create()
    named = [name for name in [*stack.resources, *stack.outputs] if "Inbox" in name]
    assert named == []
    assert "NotificationConfiguration" not in stack.properties("SourceBucket")


def test_what_is_put_into_the_watch_folder_reaches_its_function_or_a_dead_letter_queue() -> None:
    stack = cloudformation.create(INBOX | {"InboxQuality": "3"})
    assert stack.properties("SourceBucket")["NotificationConfiguration"] == {
        "EventBridgeConfiguration": {"EventBridgeEnabled": True}
    }
    rule = stack.properties("InboxRule")
    # Of this bucket alone, and only of this folder.
    assert rule["EventPattern"] == {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {"bucket": {"name": ["SourceBucket"]}, "object": {"key": [{"prefix": "inbox/"}]}},
    }
    (target,) = rule["Targets"]
    dead = "InboxDeadLetterQueue.Arn"
    assert (target["Arn"], target["DeadLetterConfig"]) == ("InboxQueue.Arn", {"Arn": dead})
    assert stack.properties("InboxQueue")["RedrivePolicy"]["deadLetterTargetArn"] == dead
    _, allow = stack.properties("InboxQueuePolicy")["PolicyDocument"]["Statement"]
    assert allow == {
        "Sid": "Rule",
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": ["InboxQueue.Arn", dead],
        "Condition": {"ArnEquals": {"aws:SourceArn": "InboxRule.Arn"}},
    }
    variables = stack.properties("InboxFunction")["Environment"]["Variables"]
    assert (variables["INBOX_FORMAT"], variables["INBOX_QUALITY"]) == ("mp4", "3")


@pytest.mark.parametrize(
    ("parameters", "possible"),
    [
        ({"InboxQuality": "6"}, True),
        ({"InboxQuality": "6", "InboxFormat": "mpd"}, True),
        ({"InboxQuality": "6", "InboxFormat": "mp4"}, False),
        ({"InboxQuality": "5", "InboxFormat": "mp4"}, True),
    ],
)
def test_a_watch_folder_whose_tasks_would_be_refused_is_not_made(
    parameters: dict[str, str], possible: bool
) -> None:
    refused = cloudformation.refusals(parameters)
    assert refused == ([] if possible else ["InboxQuality=6 (adaptive) needs InboxFormat m3u8 or mpd."])


def test_the_watch_folder_has_all_formats_and_qualities() -> None:
    assert TEMPLATE["Parameters"]["InboxFormat"]["AllowedValues"] == ["off", *FORMATS]
    quality = TEMPLATE["Parameters"]["InboxQuality"]
    allowed = range(quality["MinValue"], quality["MaxValue"] + 1)
    assert [*allowed] == [QUALITY.read(value) for value in allowed]
    assert quality["Default"] == QUALITY.default
    with pytest.raises(RefusedError):
        QUALITY.read(quality["MaxValue"] + 1)


# Data.


def test_the_table_is_the_one_of_the_code() -> None:
    table = _properties("Table")
    assert table["KeySchema"] == TABLE_SCHEMA["KeySchema"]
    assert table["AttributeDefinitions"] == TABLE_SCHEMA["AttributeDefinitions"]
    assert table["GlobalSecondaryIndexes"] == TABLE_SCHEMA["GlobalSecondaryIndexes"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == [
        ByMonth.Meta.index_name,
        ByPeriod.Meta.index_name,
        Attention.Meta.index_name,
    ]
    assert table["TimeToLiveSpecification"] == {"AttributeName": Record.expires_at.attr_name, "Enabled": True}


@pytest.mark.parametrize("name", ["Table", "SourceBucket", "UploadBucket", "OutputBucket"])
def test_data_outlives_the_stack(name: str) -> None:
    assert RESOURCES[name]["DeletionPolicy"] in {"Retain", "RetainExceptOnCreate"}
    assert RESOURCES[name]["UpdateReplacePolicy"] == "Retain"


def test_a_creation_that_fails_can_be_rolled_back() -> None:
    for name, resource in RESOURCES.items():
        # CloudFormation would try to delete it, and be refused.
        protected = resource.get("Properties", {}).get("DeletionProtectionEnabled", False)
        assert not (protected and resource.get("DeletionPolicy") != "Retain"), name
    assert _properties("Table")["DeletionProtectionEnabled"] is True


#: Types whose resources have names of our choosing, and why such a name is in nobody's way.
NAMED = {
    "AWS::ApiGateway::RestApi": "several APIs may have the same name",
    "AWS::ApiGateway::Stage": "it is the API's",
    "AWS::Lambda::Alias": "it is the function's",
    "AWS::Lambda::LayerVersion": "another version is made of a layer that is there",
}


def test_nothing_that_is_left_behind_is_in_the_way_of_what_is_made_next() -> None:
    for name, resource in cloudformation.create().resources.items():
        kind = resource["Type"].rpartition("::")[2]
        names = {"Name", f"{kind}Name", f"{kind.removesuffix('Version')}Name"}
        named = names & resource.get("Properties", {}).keys()
        assert not named or resource["Type"] in NAMED or name == "UploadBucket", name
    assert "AWS::StackId" in json.dumps(_properties("UploadBucket")["BucketName"])
    for name, config in (
        ("CachePolicy", "CachePolicyConfig"),
        ("OriginAccessControl", "OriginAccessControlConfig"),
    ):
        assert "AWS::StackId" in json.dumps(_properties(name)[config]["Name"])


@pytest.mark.parametrize("bucket", ["SourceBucket", "UploadBucket", "OutputBucket"])
def test_buckets_are_private_encrypted_and_clean_up(bucket: str) -> None:
    properties = cloudformation.create().properties(bucket)
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["BucketEncryption"]
    rules = properties["LifecycleConfiguration"]["Rules"]
    assert any(rule.get("AbortIncompleteMultipartUpload") == {"DaysAfterInitiation": 1} for rule in rules)


@pytest.mark.parametrize(
    "name",
    ["SourceBucketPolicy", "UploadBucketPolicy", "OutputBucketPolicy", "QueuePolicy", "InboxQueuePolicy"],
)
def test_only_tls_is_let_in(name: str) -> None:
    statement = _properties(name)["PolicyDocument"]["Statement"][0]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


# Uploads.


@pytest.mark.parametrize(
    ("region", "suffix"), [("eu-west-1", "amazonaws.com"), ("cn-north-1", "amazonaws.com.cn")]
)
@pytest.mark.parametrize("others", [[], ["https://films.example.com", "https://*.example.org"]])
def test_pages_of_the_api_and_of_a_parameter_may_upload(region: str, suffix: str, others: list[str]) -> None:
    stack = cloudformation.create({"Delivery": "bucket", "UploadOrigins": ",".join(others)}, region)
    rules = stack.properties("UploadBucket")["CorsConfiguration"]["CorsRules"]
    own = f"https://Api.execute-api.{region}.{suffix}"
    assert stack.outputs["ApiUrl"]["Value"].startswith(f"{own}/")
    assert [rule["AllowedOrigins"] for rule in rules] == [[own], *([others] if others else [])]
    for rule in rules:
        assert rule["AllowedMethods"] == ["PUT"]
        # Else a page could not tell which parts it has sent.
        assert rule["ExposedHeaders"] == ["ETag"]


def test_functions_upload_into_the_bucket_of_the_stack() -> None:
    stack = cloudformation.create()
    bucket = stack.properties("UploadBucket")["BucketName"]
    assert bucket == UPLOADS
    for name in ("CreateUploadFunction", "CompleteUploadFunction"):
        assert stack.properties(name)["Environment"]["Variables"]["UPLOAD_BUCKET"] == bucket


def test_uploads_stay_until_their_user_deletes_them() -> None:
    """And only what is not complete goes by itself."""
    (rule,) = _properties("UploadBucket")["LifecycleConfiguration"]["Rules"]
    assert rule.keys() == {"Id", "Status", "AbortIncompleteMultipartUpload"}


# Delivery.

OWN_URL = {"Delivery": "cdn", "OutputBaseUrl": "https://media.example.com"}
OWN_DISTRIBUTION = "arn:aws:cloudfront::123456789012:distribution/E2QWRUHAPOMQZL"
OWN_READER = "arn:aws-cn:iam::cloudfront:user/CloudFront Origin Access Identity E2QWRUHAPOMQZL"


def _reads(principal: dict[str, str] | str, source: str = "") -> dict[str, Any]:
    condition = {"Condition": {"StringEquals": {"AWS:SourceArn": source}}} if source else {}
    return {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "s3:GetObject",
        "Resource": "OutputBucket.Arn/outputs/*",
        **condition,
    }


@pytest.mark.parametrize(
    ("parameters", "base_url", "readers"),
    [
        (
            {},
            "https://Distribution.DomainName",
            [
                _reads(
                    {"Service": "cloudfront.amazonaws.com"},
                    "arn:aws:cloudfront::123456789012:distribution/Distribution",
                )
            ],
        ),
        (OWN_URL, "https://media.example.com", []),
        (
            OWN_URL | {"OutputDistributionArn": OWN_DISTRIBUTION},
            "https://media.example.com",
            [_reads({"Service": "cloudfront.amazonaws.com"}, OWN_DISTRIBUTION)],
        ),
        (
            OWN_URL | {"OutputReaderArn": OWN_READER},
            "https://media.example.com",
            [_reads({"AWS": OWN_READER})],
        ),
        ({"Delivery": "bucket"}, "https://OutputBucket.RegionalDomainName", [_reads("*")]),
    ],
)
def test_outputs_are_delivered_as_asked_for(
    parameters: dict[str, str], base_url: str, readers: list[dict[str, Any]]
) -> None:
    assert cloudformation.refusals(parameters) == []
    stack = cloudformation.create(parameters)
    environment = stack.properties("GetTranscodeFunction")["Environment"]["Variables"]
    assert environment["OUTPUT_BASE_URL"] == stack.outputs["OutputBaseUrl"]["Value"] == base_url
    tls, *statements = stack.properties("OutputBucketPolicy")["PolicyDocument"]["Statement"]
    assert tls["Effect"] == "Deny"
    assert [{k: v for k, v in statement.items() if k != "Sid"} for statement in statements] == readers
    # Public is what a parameter has opened, and nothing else.
    for bucket in ("SourceBucket", "UploadBucket", "OutputBucket"):
        opened = bucket == "OutputBucket" and parameters.get("Delivery") == "bucket"
        assert stack.properties(bucket)["PublicAccessBlockConfiguration"] == {
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": not opened,
            "RestrictPublicBuckets": not opened,
        }
    assert bool(stack.of_type("AWS::CloudFront::Distribution")) == (parameters == {})


@pytest.mark.parametrize(
    ("parameters", "region", "words"),
    [
        ({}, "eu-central-2", None),
        ({}, "ap-east-1", None),
        ({}, "cn-north-1", "no CloudFront"),
        ({}, "cn-northwest-1", "no CloudFront"),
        ({}, "us-gov-east-1", "no CloudFront"),
        ({}, "us-gov-west-1", "no CloudFront"),
        ({"Delivery": "bucket"}, "us-gov-west-1", None),
        (OWN_URL, "cn-north-1", None),
        ({"Delivery": "cdn"}, "eu-west-1", "needs OutputBaseUrl"),
        (OWN_URL | {"Delivery": "cloudfront"}, "eu-west-1", "needs Delivery=cdn"),
        (OWN_URL | {"Delivery": "bucket"}, "eu-west-1", "needs Delivery=cdn"),
    ],
)
def test_what_cannot_be_delivered_is_refused(
    parameters: dict[str, str], region: str, words: str | None
) -> None:
    refusals = cloudformation.refusals(parameters, region)
    if words is None:
        assert refusals == []
    else:
        (refusal,) = refusals
        assert words in refusal


def test_every_region_has_what_is_asked_for() -> None:
    config = cfnlint.config.ManualArgs(regions=["ALL_REGIONS"])
    assert cfnlint.api.lint((ROOT / "template.yaml").read_text(), config=config) == []


@pytest.mark.parametrize(
    ("region", "partition"), [("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("ap-east-1", "aws")]
)
def test_nothing_is_of_another_partition(region: str, partition: str) -> None:
    stack = cloudformation.create({"Delivery": "bucket"}, region)
    text = json.dumps([stack.resources, stack.outputs])
    assert set(re.findall(r"\barn:([a-z-]+):", text)) == {partition}
    suffix = "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com"
    assert stack.outputs["ApiUrl"]["Value"].partition(".execute-api.")[2].startswith(f"{region}.{suffix}/")


# Operations.


def test_every_alarm_reaches_the_topic() -> None:
    alarms = _of_type("AWS::CloudWatch::Alarm")
    assert len(alarms) == 18
    for alarm in alarms:
        assert _properties(alarm)["AlarmActions"] == [{"Ref": "AlarmTopic"}]
        # Only of the sweep it is known that it runs.
        breaching = "breaching" if alarm == "SweepSilenceAlarm" else "notBreaching"
        assert _properties(alarm)["TreatMissingData"] == breaching


def test_the_failures_of_functions_that_nobody_waits_for_raise_an_alarm() -> None:
    stack = cloudformation.create(INBOX)
    # The console's failures are answers of the API, as those of the calls.
    functions = stack.of_type("AWS::Lambda::Function").keys() - CALLS.keys() - {"ConsoleFunction"}
    alarms = stack.of_type("AWS::CloudWatch::Alarm").values()
    metric = ("AWS/Lambda", "Errors")
    errors = [alarm for alarm in alarms if (alarm["Namespace"], alarm["MetricName"]) == metric]
    assert sorted(alarm["Dimensions"][0]["Value"] for alarm in errors) == sorted(functions)
    assert {(alarm["Statistic"], alarm["Threshold"]) for alarm in errors} == {("Sum", 1)}


@pytest.mark.parametrize("kept", ["0", "20"])
def test_concurrency_is_kept_for_the_api_where_the_account_allows_it(kept: str) -> None:
    functions = cloudformation.create({"ApiConcurrency": kept}).of_type("AWS::Lambda::Function")
    for name, properties in functions.items():
        # More than none would be taken from the workers; MaxWorkers limits those.
        expected = kept if name in CALLS and kept != "0" else None
        assert properties.get("ReservedConcurrentExecutions") == expected


def test_the_runbook_knows_every_alarm_and_names_what_there_is() -> None:
    text = (ROOT / "docs" / "RUNBOOK.md").read_text()
    table = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert {name for cell in table for name in re.findall(r"`(\w+)`", cell)} == _of_type(
        "AWS::CloudWatch::Alarm"
    )
    stack = cloudformation.create(INBOX)
    assert set(re.findall(r"\$\(physical (\w+)\)", text)) <= stack.resources.keys()
    assert set(re.findall(r"\$\(output (\w+)\)", text)) <= stack.outputs.keys()


def test_the_dashboard_is_json() -> None:
    body = json.loads(_properties("Dashboard")["DashboardBody"]["Fn::Sub"])
    assert len(body["widgets"]) == 6


# Parameters.


def test_parameters_are_described_grouped_and_used() -> None:
    parameters = TEMPLATE["Parameters"]
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(parameters)
    rest = json.dumps({key: TEMPLATE[key] for key in ("Conditions", "Globals", "Resources")})
    for name, parameter in parameters.items():
        assert parameter["Description"]
        assert "Default" in parameter
        assert f'{{"Ref": "{name}"}}' in rest


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        ("OutputBaseUrl", "", True),
        ("OutputBaseUrl", "https://media.example.com", True),
        ("OutputBaseUrl", "http://127.0.0.1:4580/transcoding-outputs", True),
        ("OutputBaseUrl", "https://media.example.com/", False),
        ("OutputBaseUrl", "media.example.com", False),
        ("OutputDistributionArn", OWN_DISTRIBUTION, True),
        ("OutputDistributionArn", "E2QWRUHAPOMQZL", False),
        ("OutputReaderArn", OWN_READER, True),
        ("OutputReaderArn", "arn:aws:iam::123456789012:role/cdn", True),
        ("OutputReaderArn", "*", False),
        ("ExtraSourceArns", "", True),
        ("ExtraSourceArns", "arn:aws-cn:s3:::films", True),
        ("ExtraSourceArns", "arn:aws:s3:::films/*", True),
        ("ExtraSourceArns", "films", False),
        ("ExtraSourceArns", "s3://films", False),
        ("ExtraSourceArns", "arn:aws:s3:eu-west-1:123456789012:accesspoint/films", False),
        ("Timezone", "Asia/Shanghai", True),
        ("Timezone", "America/Argentina/Buenos_Aires", True),
        ("Timezone", "Etc/GMT+8", True),
        ("Timezone", "Asia/", False),
        ("AlarmEmail", "", True),
        ("AlarmEmail", "ops@example.com", True),
        ("AlarmEmail", "ops", False),
    ],
)
def test_values_of_parameters(parameter: str, value: str, allowed: bool) -> None:
    assert bool(re.fullmatch(TEMPLATE["Parameters"][parameter]["AllowedPattern"], value)) is allowed


def test_defaults_of_the_template_and_of_the_code_agree() -> None:
    parameters = TEMPLATE["Parameters"]
    assert parameters["Timezone"]["Default"] == settings.Settings.timezone.key
    assert parameters["RetentionDays"]["Default"] == settings.DeleteSettings.retention_days
    for function in (settings.WorkerSettings, settings.SweepSettings):
        assert parameters["MaxWorkers"]["Default"] == function.max_workers
    assert parameters["LeaseSeconds"]["Default"] == settings.WorkerSettings.lease_seconds
