"""Languages: the codes that containers have (ISO 639-2) and the tags that playlists have (BCP 47)."""

from __future__ import annotations

import re
from types import MappingProxyType

from langcodes import Language
from langcodes.tag_parser import LanguageTagError

#: FFmpeg's names of QuickTime's language numbers, by BCP 47 tag, where they are not ISO 639-2/T
#: (mov_mdhd_language_map in libavformat/isom.c). Some are padded with a space.
_QUICKTIME = MappingProxyType(
    {
        "bo": "tib",
        "cy": "wel",
        "de": "ger",
        "el": "gre",
        "eu": "baq",
        "fa": "per",
        "fil": "tgl",
        "fo": "fo ",
        "hr": "hr ",
        "hy": "arm",
        "is": "ice",
        "ka": "geo",
        "mk": "mac",
        "ms": "may",
        "my": "bur",
        "nl": "dut",
        "pa": "pa ",
        "sq": "alb",
        "sr": "sr ",
        "sv": "sve",
        "zh": "chi",
    }
)
#: FFmpeg's names that ISO 639-3 assigns to other languages.
_FROM_QUICKTIME = MappingProxyType({"iri": "fa", "sve": "sv"})

#: Undetermined, several, none, not coded, and of private use.
_NO_LANGUAGE = re.compile("und|mul|zxx|mis|q[a-t][a-z]|x-.*")


def tag(code: str) -> str:
    """Return the BCP 47 tag of a container's code ("ger", "deu", "pt-BR"); empty if it names no language."""
    code = code.strip().lower()
    try:
        language = Language.get(_FROM_QUICKTIME.get(code, code))
    except LanguageTagError:
        return ""
    subtag = language.language
    if subtag is None or _NO_LANGUAGE.fullmatch(subtag) or not Language.make(subtag).is_valid():
        return ""
    return language.to_tag()


def code(tag: str, *, quicktime: bool = False) -> str:
    """Return the ISO 639-2/T code of a tag ("und" of none), or FFmpeg's name for `quicktime` files."""
    subtag = Language.get(tag or "und").language or "und"
    if quicktime and subtag in _QUICKTIME:
        return _QUICKTIME[subtag]
    return Language.make(subtag).to_alpha3()


def name(tag: str) -> str:
    """Return the English name of a tag ("Portuguese (Brazil)"), or the tag if part of it is unknown."""
    if not tag:
        return ""
    language = Language.get(tag)
    return language.display_name() if language.is_valid() else tag
