"""How large a result is at least: a pure function from facts and a plan."""

from __future__ import annotations

from transcoding.media.inspection.facts import SourceFacts
from transcoding.media.planning.plan import Plan, picture_bit_rate

#: The share of its estimated size that a result has at least: containers round, and last packets get lost.
_KEPT = 0.95


def least_size(source: SourceFacts, plan: Plan) -> int:
    """Return how many bytes the result takes at least, as far as that is known before it is made.

    A copied stream keeps its size, and PCM has a constant bit rate. The size of any other encoded stream
    depends on its content, so it is not counted.
    """
    if plan.estimated:
        return 0
    copied = encoded = 0.0
    for picture in plan.pictures:
        seconds = picture.facts.duration or plan.duration or 0
        copied += (picture_bit_rate(source, picture.facts) or 0) * seconds if picture.copied else 0
    if sound := plan.sound:
        seconds = sound.facts.duration or plan.duration or 0
        if sound.copied:
            copied += (sound.facts.bit_rate or 0) * seconds
        else:
            encoded += sound.codec.sample_bits * sound.channels * sound.sample_rate * seconds
    # Whatever bit rates the source declares, no more bytes can be copied than it has.
    return int(_KEPT * (min(copied / 8, source.size) + encoded / 8))
