"""Which frame becomes the poster."""

from __future__ import annotations

from transcoding.media.packaging.poster import HEIGHT, WIDTH, Look, candidates, is_steady, unrest

PIXELS = WIDTH * HEIGHT
GREY = bytes([128]) * (2 * PIXELS)
COLOURS = bytes([90]) * PIXELS + bytes([160]) * PIXELS


def scene(seed: int, gain: float = 1.0) -> bytes:
    """Luma with all tones, another one for each seed."""
    return bytes(int(gain * ((n * 37 + seed * 91) % 200 + 20)) for n in range(PIXELS))


def mix(one: bytes, other: bytes, share: float) -> bytes:
    return bytes(int(a * (1 - share) + b * share) for a, b in zip(one, other, strict=True))


BLACK, WHITE = bytes([2]) * PIXELS, bytes([250]) * PIXELS


def test_black_white_and_flat_frames_come_last():
    good = Look(scene(1) + COLOURS, 9000)
    dull = [Look(luma + GREY, 9000) for luma in (BLACK, WHITE, bytes([120]) * PIXELS, scene(1, 0.1))]
    assert all(look.is_dull for look in dull)
    assert candidates([*dull, good])[0] == 4
    assert candidates(dull)


def test_the_first_moment_is_taken_only_if_there_is_nothing_else():
    look = Look(scene(1) + COLOURS, 9000)
    assert candidates([look, look, look])[0] == 1
    assert candidates([look]) == [0]


def test_detail_and_colour_count():
    plain, sharp = Look(scene(1) + GREY, 3000), Look(scene(1) + GREY, 9000)
    assert candidates([plain] * 10 + [sharp] + [plain] * 10)[0] == 10
    colourful = Look(scene(1) + COLOURS, 3000)
    assert candidates([plain] * 10 + [colourful] + [plain] * 10)[0] == 10


def test_the_end_is_not_given_away():
    look = Look(scene(1) + COLOURS, 9000)
    assert candidates([look] * 100)[0] in range(5, 61)


def test_a_fade_is_told_from_a_shot():
    one, other = scene(1), scene(7)
    cross_fade = [Look(mix(one, other, share) + GREY) for share in (0.3, 0.5, 0.7)]
    fade_in = [Look(mix(BLACK, one, share) + GREY) for share in (0.3, 0.5, 0.7)]
    shot = [Look(mix(one, other, share) + GREY) for share in (0.0, 0.02, 0.04)]
    assert not is_steady(unrest(cross_fade))
    assert not is_steady(unrest(fade_in))
    assert is_steady(unrest(shot))
    assert is_steady(unrest(shot[:1]))
