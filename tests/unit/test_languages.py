"""Languages: what containers tell becomes a tag, a code and a name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transcoding.media import languages


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("ger", "de"),
        ("deu", "de"),
        ("DE", "de"),
        ("zul", "zu"),
        ("fil", "fil"),
        ("pt-BR", "pt-BR"),
        ("en-us", "en-US"),
        # QuickTime's Swedish, Persian and Croatian, as FFmpeg tells them.
        ("sve", "sv"),
        ("iri", "fa"),
        ("hr ", "hr"),
        # Codes that were withdrawn.
        ("iw", "he"),
        ("scc", "sr"),
        *((code, "") for code in ("und", "mul", "zxx", "mis", "qaa", "x-klingon", "xqz", "", "```", 'e"n')),
    ],
)
def test_a_code_becomes_a_tag(code: str, tag: str) -> None:
    assert languages.tag(code) == tag


@pytest.mark.parametrize(
    ("tag", "code", "quicktime", "name"),
    [
        ("de", "deu", "ger", "German"),
        ("sv", "swe", "sve", "Swedish"),
        ("fr", "fra", "fra", "French"),
        ("hr", "hrv", "hr ", "Croatian"),
        ("zu", "zul", "zul", "Zulu"),
        ("pt-BR", "por", "por", "Portuguese (Brazil)"),
        ("fil", "fil", "tgl", "Filipino"),
        ("en-AB", "eng", "eng", "en-AB"),
        ("", "und", "und", ""),
    ],
)
def test_a_tag_has_codes_and_a_name(tag: str, code: str, quicktime: str, name: str) -> None:
    assert languages.code(tag) == code
    assert languages.code(tag, quicktime=True) == quicktime
    assert languages.name(tag) == name


_SUBTAGS = st.lists(st.from_regex("[A-Za-z0-9]{1,9}", fullmatch=True), min_size=1, max_size=4)


@given(st.one_of(st.text(), _SUBTAGS.map("-".join)))
def test_whatever_a_container_tells_is_safe_in_a_playlist(code: str) -> None:
    tag = languages.tag(code)
    assert re.fullmatch("([A-Za-z0-9]+(-[A-Za-z0-9]+)*)?", tag)
    assert re.fullmatch("[a-z]{3}", languages.code(tag))
    assert not re.search(r'["\x00-\x1f]', languages.name(tag))
