"""The rules of MPEG's schema (ISO/IEC 23009-1:2022, Annex B) for the elements that manifests here have.

The schema itself may not be passed on. A manifest that `check` takes is valid against DASH-MPD.xsd.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

SPACE = "{urn:mpeg:dash:schema:mpd:2011}"

_NUMBER = r"\d+"
_DURATION = r"P(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)"
_RATIO = r"\d+:\d+"
_RATE = r"\d+(/[1-9]\d*)?"
_TRUE = r"true|false"
_ID = r"\S+"
_URI = r"\S+"


@dataclass(frozen=True)
class Rule:
    """An element's attributes, with what each may be, and the children that may follow one another."""

    attributes: dict[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    children: tuple[str, ...] = ()
    text: bool = False


#: What sets and representations have in common, in the schema's order.
_COMMON = (
    *("FramePacking", "AudioChannelConfiguration", "ContentProtection", "OutputProtection"),
    *("EssentialProperty", "SupplementalProperty", "InbandEventStream", "Switching", "RandomAccess"),
    *("GroupLabel", "Label"),
)
_COMMON_ATTRIBUTES = {
    "width": _NUMBER,
    "height": _NUMBER,
    "sar": _RATIO,
    "frameRate": _RATE,
    "audioSamplingRate": r"\d+( \d+)?",
    "mimeType": r"(video|audio|text|image|application)/\S+",
    "codecs": r"[^\s,]+(,[^\s,]+)*",
    "startWithSAP": "[0-6]",
    "selectionPriority": _NUMBER,
}
_DESCRIPTOR = Rule({"schemeIdUri": _URI, "value": ".*", "id": ".*"}, frozenset({"schemeIdUri"}))
_URL = Rule(text=True)

RULES = {
    "MPD": Rule(
        {
            "profiles": r"[^\s,]+(,[^\s,]+)*",
            "type": "static|dynamic",
            "mediaPresentationDuration": _DURATION,
            "minBufferTime": _DURATION,
        },
        frozenset({"profiles", "minBufferTime", "mediaPresentationDuration"}),
        ("Period",),
    ),
    "Period": Rule({"id": _ID, "start": _DURATION, "duration": _DURATION}, children=("AdaptationSet",)),
    "AdaptationSet": Rule(
        _COMMON_ATTRIBUTES
        | {
            "id": _NUMBER,
            "lang": r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*",
            "contentType": "video|audio|text|image|application|font",
            "par": _RATIO,
            "maxWidth": _NUMBER,
            "maxHeight": _NUMBER,
            "maxFrameRate": _RATE,
            "segmentAlignment": _TRUE,
        },
        children=(
            *_COMMON,
            *("Accessibility", "Role", "Rating", "Viewpoint", "ContentComponent", "BaseURL"),
            *("SegmentBase", "SegmentList", "SegmentTemplate", "Representation"),
        ),
    ),
    "Representation": Rule(
        _COMMON_ATTRIBUTES | {"id": _ID, "bandwidth": r"[1-9]\d*"},
        frozenset({"id", "bandwidth"}),
        (*_COMMON, "BaseURL", "SegmentBase", "SegmentList", "SegmentTemplate"),
    ),
    "SegmentTemplate": Rule(
        {
            "timescale": r"[1-9]\d*",
            "duration": r"[1-9]\d*",
            "startNumber": _NUMBER,
            "initialization": _URI,
            "media": r"\S*\$(Time|Number)(%0\d+d)?\$\S*",
        },
        children=("SegmentTimeline",),
    ),
    "SegmentTimeline": Rule(children=("S",)),
    "S": Rule({"t": _NUMBER, "d": r"[1-9]\d*", "r": r"-?\d+"}, frozenset({"d"})),
    "BaseURL": _URL,
    "Label": Rule({"id": _NUMBER, "lang": r"\S+"}, text=True),
    "Role": _DESCRIPTOR,
    "Accessibility": _DESCRIPTOR,
    "AudioChannelConfiguration": _DESCRIPTOR,
    "EssentialProperty": _DESCRIPTOR,
    "SupplementalProperty": _DESCRIPTOR,
}
#: Children of which there must be one or more.
_SOME = {"MPD": "Period", "AdaptationSet": "Representation", "SegmentTimeline": "S"}


def check(element: Element) -> None:
    """Assert that an element and all in it are as the schema has them."""
    name = element.tag.removeprefix(SPACE)
    rule = RULES[name]
    for attribute, value in element.attrib.items():
        assert attribute in rule.attributes, f"{name}@{attribute}"
        assert re.fullmatch(rule.attributes[attribute], value), f"{name}@{attribute} is {value}"
    assert rule.required <= set(element.keys()), name
    assert bool((element.text or "").strip()) == rule.text, f"the text of {name}"
    children = [child.tag.removeprefix(SPACE) for child in element]
    assert set(children) <= set(rule.children), f"{children} in {name}"
    assert children == sorted(children, key=rule.children.index), f"{children} in {name}"
    assert name not in _SOME or _SOME[name] in children, f"{name} without {_SOME.get(name)}"
    for child in element:
        check(child)
