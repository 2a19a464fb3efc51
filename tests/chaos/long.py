"""Run an adaptive task of three hours in bad weather, and look at every frame of its result.

python -m tests.chaos.long [--seed N] [--hours N] [--blows SECONDS]

As `tests.chaos`, with longer parts. Blows begin when there are parts. The exit code is 0 if each rendition
has the source's frames at their times, the sound is the source's, and nothing is left.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos.orders import SAME_SOUND, Wish, heard, likeness, look, make
from tests.chaos.run import SUCCEEDED, Run, running
from tests.chaos.weather import Blow, Weather

FILM = "film.mp4"
RATE = 3
#: A picture in which every frame is another. It is small: for each range of a file, the
#: emulator reads all that follows.
_RECIPE = (
    "-f lavfi -i testsrc2=s=1280x720:r={rate}:d={seconds} -f lavfi -i sine=440:beep_factor=4:d={seconds}"
    " -c:v libx264 -preset veryfast -g 60 -pix_fmt yuv420p -b:v 120k -c:a aac -b:a 32k"
)
LEASE = 20
PARAMETERS = {"MaxWorkers": "3", "LeaseSeconds": str(LEASE), "FanOutSeconds": "60", "PartSeconds": "2"}
RATE_OF_FAULTS = 0.05
_SHARES = {Blow.FFMPEG: 40, Blow.WORKER: 40, Blow.STOPPED: 20}
#: Seconds until it must have ended.
LONGEST = 3 * 3600
#: PSNR of the worst frame, decibels: that of another frame is far lower.
LEAST = 22.0


def main() -> int:
    """Run, print and tell by the exit code whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.long", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hours", type=float, default=3)
    # The sound is one part, which takes some minutes: a third of the blows strike it, and the sixth ends the
    # task.
    parser.add_argument("--blows", type=float, default=75, help="seconds from one to the next, on average")
    arguments = parser.parse_args()
    with running(arguments.seed, PARAMETERS) as (run, _):
        well = _is_well(run, arguments.seed, round(arguments.hours * 3600), arguments.blows)
    return 0 if well else 1


def _is_well(run: Run, seed: int, seconds: int, blows: float) -> bool:
    source = run.clips / FILM
    run.clips.mkdir()
    make(source, _RECIPE.format(rate=RATE, seconds=seconds))
    run.start()
    run.upload(source)
    weather = Weather(seed, blows, run.emulator.running_pid, None, LEASE + 6, _SHARES)
    run.proxy.rate, started = RATE_OF_FAULTS, time.monotonic()
    made = run.create(Wish.of(FILM, "m3u8", 6))
    while run.task(made)["progress"] == 0 and run.unfinished():
        time.sleep(1)
    with weather.blowing():
        run.settle(LONGEST)
    run.proxy.rate = 0
    task = run.task(made)
    print(f"{seconds / 3600:g} h after {time.monotonic() - started:.0f} s: {task}", flush=True)
    print(f"{dict(weather.blows)}, {sum(run.proxy.faults.values())} of {run.proxy.calls} calls with a fault")
    if task.get("status") != SUCCEEDED:
        return False
    run.let_time_pass()
    left = run.left(task, run.objects()[made.id])
    result = look(task["target_url"], source, RATE)
    likely = [likeness(sound, heard(str(source))) for sound in result.sound]
    print(f"{[len(t) for t in result.times]} frames, the worst of {result.worst} dB, the sound {likely} dB")
    print(f"left: {sorted(left)}")
    times = tuple(round(n / RATE, 3) for n in range(seconds * RATE))
    return (
        all(shown == times for shown in result.times)
        and min(result.worst) > LEAST
        and min(likely) > SAME_SOUND
        and not left
    )


if __name__ == "__main__":
    sys.exit(main())
