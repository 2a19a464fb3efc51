"""What create-transcode's parameters mean together."""

from __future__ import annotations

from transcoding.errors import ApiError
from transcoding.media.planning.formats import FORMATS
from transcoding.media.planning.ladder import ADAPTIVE
from transcoding.model import Order


def read_order(
    origin_url: str,
    quality: int,
    format_name: str,
    codecs: tuple[str, ...] | None,
    thumbnails: bool | None,
    callback_url: str | None,
) -> Order:
    """Return what is asked for. Raises ApiError (400) for values that do not go together.

    None for the codecs, which come in any order, is the format's default one; for thumbnails, those of
    adaptive tasks.
    """
    target, adaptive, refusals = FORMATS[format_name], quality == ADAPTIVE, []
    if adaptive and not target.segmented:
        adaptive_formats = ", ".join(name for name, other in FORMATS.items() if other.segmented)
        refusals.append(f"task_config_temp_id: 6 (adaptive) needs one of the formats {adaptive_formats}")
    possible = [codec.name for codec in target.codec_choices]
    asked = codecs or ()
    if any(name not in possible for name in asked):
        choices = f"must be one of {', '.join(possible)}" if possible else "has no choice"
        refusals.append(f"codec: {choices} for {format_name}")
    elif len(asked) > 1 and not adaptive:
        refusals.append("codec: must be one codec, unless task_config_temp_id is 6 (adaptive)")
    if refusals:
        raise ApiError(400, "; ".join(refusals))
    chosen = [name for name in possible if name in asked]
    default = chosen in ([], possible[:1])
    return Order(
        origin_url,
        quality,
        format_name,
        codecs="" if default else ",".join(chosen),
        thumbnails=adaptive if thumbnails is None else thumbnails,
        callback_url=callback_url or "",
    )
