"""The DASH manifest (ISO/IEC 23009-1) over the same segments as the HLS playlists."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from transcoding.media.packaging import subtitles as webvtt
from transcoding.media.packaging import thumbnails
from transcoding.media.packaging.hls import Picture, Rendition, Subtitles, segment_name
from transcoding.media.packaging.thumbnails import Sheets

#: Marks sets of tiled pictures, with how many there are in each direction.
_THUMBNAIL_TILE = "http://dashif.org/guidelines/thumbnail_tile"


def manifest(
    pictures: Sequence[Rendition],
    sound: Rendition | None,
    subtitles: Sequence[Subtitles] = (),
    sheets: Sheets | None = None,
) -> str:
    """Render the manifest of a whole result (profile isoff-live, type static).

    `pictures` are those of one codec after those of another, which is more efficient, each the best first.
    Each rendition's init segment and segments are beside its playlist; segments are named after their start.
    """
    streams = [*pictures, sound] if sound else pictures
    # A player that has loaded its first segment at `bandwidth` has each further one in time.
    longest = max(rendition.seconds(segment) for rendition in streams for segment in rendition.segments)
    duration = max(rendition.duration for rendition in streams)
    mpd = Element(
        "MPD",
        {
            "xmlns": "urn:mpeg:dash:schema:mpd:2011",
            "profiles": "urn:mpeg:dash:profile:isoff-live:2011",
            "type": "static",
            # No longer than the media: a player would wait for what is missing.
            "mediaPresentationDuration": f"PT{math.floor(duration * 1000) / 1000:.3f}S",
            "minBufferTime": f"PT{math.ceil(longest * 1000) / 1000:.3f}S",
        },
    )
    period = SubElement(mpd, "Period", {"id": "0", "start": "PT0S"})
    has_sdr = any(r.picture.video_range == "SDR" for r in pictures if r.picture)
    families = [list(group) for _, group in groupby(pictures, key=lambda rendition: rendition.codec_family)]
    for priority, renditions in enumerate(families, 1):
        adaptation_set = _adaptation_set(period, "video", renditions[0])
        _set_limits(adaptation_set, [r.picture for r in renditions if r.picture])
        _tell_colours(adaptation_set, renditions[0], has_sdr=has_sdr)
        if len(families) > 1:
            # The same film in several codecs: a player takes the last that it can decode.
            adaptation_set.set("selectionPriority", str(priority))
        for rendition in renditions:
            _add_picture(adaptation_set, rendition)
    if sound:
        adaptation_set = _adaptation_set(period, "audio", sound)
        # DASH-IF asks for a language; this is that of sound whose language is not known (BCP 47).
        adaptation_set.set("lang", sound.language or "und")
        _add_sound(adaptation_set, sound)
    for number, subtitle in enumerate(subtitles):
        _add_subtitles(period, number, subtitle)
    if sheets:
        _add_thumbnails(period, sheets)
    indent(mpd)
    return tostring(mpd, encoding="unicode", xml_declaration=True) + "\n"


def _set_limits(adaptation_set: Element, pictures: Sequence[Picture]) -> None:
    """Tell the most that a player needs for a set (DASH-IF interoperability points 4.3, 3.2.4)."""
    widths, heights = [p.width for p in pictures], [p.height for p in pictures]
    shape = Fraction(max(widths), max(heights))
    adaptation_set.set("maxWidth", str(max(widths)))
    adaptation_set.set("maxHeight", str(max(heights)))
    adaptation_set.set("maxFrameRate", str(max(p.frame_rate for p in pictures)))
    adaptation_set.set("par", f"{shape.numerator}:{shape.denominator}")


def _tell_colours(adaptation_set: Element, rendition: Rendition, *, has_sdr: bool) -> None:
    """Tell that a picture is HDR (DASH-IF interoperability points, HDR profiles; ISO/IEC 23091-2's numbers).

    HLG also looks right where it is taken for SDR; PQ does not, so a player that does not know it must take
    SDR, where there is some: a set with a property that it must know would leave it without any picture.
    """
    video_range = rendition.picture.video_range if rendition.picture else "SDR"
    if video_range == "SDR":
        return
    kind = "EssentialProperty" if video_range == "PQ" and has_sdr else "SupplementalProperty"
    curve = 16 if video_range == "PQ" else 18
    colours = (("ColourPrimaries", 9), ("TransferCharacteristics", curve), ("MatrixCoefficients", 9))
    for place, (name, value) in enumerate(colours):
        scheme = {"schemeIdUri": f"urn:mpeg:mpegB:cicp:{name}", "value": str(value)}
        adaptation_set.insert(place, Element(kind, scheme))


def _add_picture(adaptation_set: Element, rendition: Rendition) -> None:
    representation = _representation(adaptation_set, rendition)
    if picture := rendition.picture:
        representation.set("width", str(picture.width))
        representation.set("height", str(picture.height))
        representation.set("frameRate", str(picture.frame_rate))
        representation.set("sar", "1:1")


def _add_sound(adaptation_set: Element, rendition: Rendition) -> None:
    channels = {
        "schemeIdUri": "urn:mpeg:dash:23003:3:audio_channel_configuration:2011",
        "value": str(rendition.channels),
    }
    representation = _representation(adaptation_set, rendition)
    representation.set("audioSamplingRate", str(rendition.sample_rate))
    representation.insert(0, Element("AudioChannelConfiguration", channels))


def _adaptation_set(period: Element, kind: str, rendition: Rendition) -> Element:
    """Add a set of representations that a player may switch between; return it."""
    adaptation_set = SubElement(
        period,
        "AdaptationSet",
        {"contentType": kind, "mimeType": f"{kind}/mp4", "segmentAlignment": "true", "startWithSAP": "1"},
    )
    _label(adaptation_set, rendition.language, rendition.name)
    _role(adaptation_set, "main")
    return adaptation_set


def _representation(adaptation_set: Element, rendition: Rendition) -> Element:
    folder = rendition.uri.rpartition("/")[0]
    representation = SubElement(
        adaptation_set,
        "Representation",
        {"id": folder, "codecs": rendition.codec, "bandwidth": str(rendition.peak_bit_rate)},
    )
    template = SubElement(
        representation,
        "SegmentTemplate",
        {
            "timescale": str(rendition.timescale),
            "initialization": f"{folder}/{rendition.init_segment}",
            "media": f"{folder}/{segment_name('$Time$')}",
        },
    )
    timeline = SubElement(template, "SegmentTimeline")
    for length, run in groupby(rendition.segments, key=lambda segment: segment.end - segment.start):
        repeats = sum(1 for _ in run) - 1
        SubElement(timeline, "S", {"d": str(length)} | ({"r": str(repeats)} if repeats else {}))
    timeline[0].set("t", str(rendition.segments[0].start))
    return representation


def _add_subtitles(period: Element, number: int, subtitles: Subtitles) -> None:
    """Add subtitles as one file, which every player of text reads; only HLS has them in segments."""
    facts = subtitles.facts
    adaptation_set = SubElement(
        period, "AdaptationSet", {"contentType": "text", "mimeType": webvtt.CONTENT_TYPE}
    )
    _label(adaptation_set, facts.language, facts.name)
    if facts.hearing_impaired:
        # For the hard of hearing.
        purpose = {"schemeIdUri": "urn:tva:metadata:cs:AudioPurposeCS:2007", "value": "2"}
        SubElement(adaptation_set, "Accessibility", purpose)
    _role(
        adaptation_set,
        "forced-subtitle" if facts.forced else "caption" if facts.hearing_impaired else "subtitle",
    )
    if facts.default:
        _role(adaptation_set, "main")
    bandwidth = str(subtitles.rendition.average_bit_rate)
    representation = SubElement(
        adaptation_set, "Representation", {"id": f"subtitles-{number}", "bandwidth": bandwidth}
    )
    SubElement(representation, "BaseURL").text = subtitles.file


def _add_thumbnails(period: Element, sheets: Sheets) -> None:
    """Add the sheets of tiles as a set of their own (DASH-IF IOP 4.3, 6.2.6)."""
    adaptation_set = SubElement(
        period, "AdaptationSet", {"contentType": "image", "mimeType": thumbnails.CONTENT_TYPE}
    )
    SubElement(
        adaptation_set,
        "SegmentTemplate",
        {
            "media": f"{thumbnails.FOLDER}/{thumbnails.sheet_name('$Number$')}",
            "duration": str(sheets.tiles * sheets.seconds),
            "startNumber": "1",
        },
    )
    representation = SubElement(
        adaptation_set,
        "Representation",
        {
            "id": thumbnails.FOLDER,
            "bandwidth": str(sheets.bit_rate),
            "width": str(sheets.columns * sheets.width),
            "height": str(sheets.rows * sheets.height),
        },
    )
    tiles = f"{sheets.columns}x{sheets.rows}"
    SubElement(representation, "EssentialProperty", {"schemeIdUri": _THUMBNAIL_TILE, "value": tiles})


def _label(adaptation_set: Element, language: str, name: str) -> None:
    if language:
        adaptation_set.set("lang", language)
    if name:
        SubElement(adaptation_set, "Label").text = name


def _role(adaptation_set: Element, value: str) -> None:
    SubElement(adaptation_set, "Role", {"schemeIdUri": "urn:mpeg:dash:role:2011", "value": value})
