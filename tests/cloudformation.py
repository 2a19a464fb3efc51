"""What CloudFormation makes of template.yaml: the SAM transform, then the intrinsic functions."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

from samtranslator.translator.arn_generator import ArnGenerator
from samtranslator.translator.transform import transform

from local.package import ROOT, load_template

TEMPLATE = load_template(ROOT / "template.yaml")
#: The partition of a region whose name starts so.
PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
#: What a property becomes that is to be left out.
_NOTHING = object()


class _NoManagedPolicies:
    """SAM asks for the managed policies that a template names in short; this one names none."""

    def load(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class Stack:
    """A stack of the template: its resources with their values in place.

    A reference to a resource is the resource's logical id, and its attribute is `Id.Attribute`.
    """

    resources: dict[str, dict[str, Any]]
    outputs: dict[str, Any]

    def properties(self, logical_id: str) -> dict[str, Any]:
        properties: dict[str, Any] = self.resources[logical_id]["Properties"]
        return properties

    def of_type(self, type_: str) -> dict[str, dict[str, Any]]:
        return {name: r["Properties"] for name, r in self.resources.items() if r["Type"] == type_}


def packaged() -> dict[str, Any]:
    """The template as `sam deploy` hands it to CloudFormation: with places in S3 and ECR for the code."""
    template = deepcopy(TEMPLATE)
    template["Globals"]["Function"]["CodeUri"] = "s3://code/functions.zip"
    for resource in template["Resources"].values():
        properties = resource.get("Properties", {})
        if properties.get("PackageType") == "Image":
            properties["ImageUri"] = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/worker:latest"
        if "ContentUri" in properties:
            properties["ContentUri"] = "s3://code/layer.zip"
    return template


def transformed(parameters: Mapping[str, str] | None = None, region: str = "eu-west-1") -> dict[str, Any]:
    """The template after the SAM transform, with references still in it."""
    values = _values(parameters or {}, region)
    with (
        patch.dict(os.environ, {"AWS_DEFAULT_REGION": region}),
        # It remembers the first region that it was asked for.
        patch.object(ArnGenerator, "BOTO_SESSION_REGION_NAME", region),
    ):
        template: dict[str, Any] = transform(packaged(), values, _NoManagedPolicies())
    return template


def create(parameters: Mapping[str, str] | None = None, region: str = "eu-west-1") -> Stack:
    """Make a stack of the template with the given parameters, the others at their defaults."""
    return _create(frozenset((parameters or {}).items()), region)


@cache
def _create(parameters: frozenset[tuple[str, str]], region: str) -> Stack:
    template = transformed(dict(parameters), region)
    resolver = _Resolver(_typed(_values(dict(parameters), region)), template["Conditions"])
    made = {
        name: resource
        for name, resource in template["Resources"].items()
        if "Condition" not in resource or resolver.holds(resource["Condition"])
    }
    shown = {
        name: output
        for name, output in template["Outputs"].items()
        if "Condition" not in output or resolver.holds(output["Condition"])
    }
    return Stack(resolver.resolve(made), resolver.resolve(shown))


def refusals(parameters: Mapping[str, str] | None = None, region: str = "eu-west-1") -> list[str]:
    """What the template's rules say against a stack with the given parameters."""
    resolver = _Resolver(_typed(_values(parameters or {}, region)), {})
    return [
        assertion["AssertDescription"]
        for rule in TEMPLATE["Rules"].values()
        if resolver.resolve(rule["RuleCondition"])
        for assertion in rule["Assertions"]
        if not resolver.resolve(assertion["Assert"])
    ]


def _values(parameters: Mapping[str, str], region: str) -> dict[str, str]:
    """The values of all parameters, and of what every stack knows."""
    partition = next((p for start, p in PARTITIONS.items() if region.startswith(start)), "aws")
    return {
        "AWS::AccountId": "123456789012",
        "AWS::Partition": partition,
        "AWS::Region": region,
        "AWS::StackId": f"arn:{partition}:cloudformation:{region}:123456789012:stack/transcoding/5e63a3c1",
        "AWS::StackName": "transcoding",
        "AWS::URLSuffix": "amazonaws.com.cn" if partition == "aws-cn" else "amazonaws.com",
        **{name: str(declared["Default"]) for name, declared in TEMPLATE["Parameters"].items()},
        **parameters,
    }


def _typed(values: Mapping[str, str]) -> dict[str, Any]:
    """The values as references give them."""
    typed: dict[str, Any] = {**values, "AWS::NoValue": _NOTHING}
    for name, declared in TEMPLATE["Parameters"].items():
        if declared["Type"] == "CommaDelimitedList":
            typed[name] = values[name].split(",") if values[name] else []
    return typed


class _Resolver:
    """Evaluates intrinsic functions."""

    def __init__(self, values: Mapping[str, Any], conditions: Mapping[str, Any]) -> None:
        self._values = values
        self._conditions = conditions

    def holds(self, condition: str) -> bool:
        return bool(self.resolve(self._conditions[condition]))

    def resolve(self, node: Any) -> Any:
        if isinstance(node, list):
            return [value for item in node if (value := self.resolve(item)) is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            ((name, argument),) = node.items()
            if name == "Ref":
                return self._values.get(argument, argument)
            if name == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if name.startswith("Fn::"):
                return self._call(name.removeprefix("Fn::"), argument)
        return {key: value for key, item in node.items() if (value := self.resolve(item)) is not _NOTHING}

    def _call(self, function: str, argument: Any) -> Any:  # noqa: PLR0912 - a branch a function
        value: Any
        match function, argument:
            case "If", [condition, then, otherwise]:
                value = self.resolve(then if self.holds(condition) else otherwise)
            case "GetAtt", names:
                value = names if isinstance(names, str) else ".".join(names)
            case "Sub", [text, names]:
                value = self._substitute(text, self.resolve(names))
            case "Sub", text:
                value = self._substitute(text, {})
            case "Join", [separator, parts]:
                value = separator.join(self.resolve(parts))
            case "Split", [separator, text]:
                value = self.resolve(text).split(separator)
            case "Select", [index, items]:
                value = self.resolve(items)[int(index)]
            case "Contains", [items, item]:
                value = self.resolve(item) in self.resolve(items)
            case "Equals", [one, other]:
                value = str(self.resolve(one)) == str(self.resolve(other))
            case "Not", [condition]:
                value = not self.resolve(condition)
            case "And", conditions:
                value = all(map(self.resolve, conditions))
            case "Or", conditions:
                value = any(map(self.resolve, conditions))
            case _:
                raise NotImplementedError(f"Fn::{function} of {argument}")
        return value

    def _substitute(self, text: str, names: Mapping[str, str]) -> str:
        return re.sub(
            r"\$\{(!?)([^}]+)\}",
            lambda m: f"${{{m[2]}}}" if m[1] else str({**self._values, **names}.get(m[2], m[2])),
            text,
        )
