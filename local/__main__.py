"""`python -m local up|down|demo`. The Makefile runs it after installing what it needs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from local import demo, stack
from local.deploy import DeployError
from local.emulator import Emulator, EmulatorError


def main() -> int:
    """Run one command. The exit code is 0 only on success; for `demo`, only if the task succeeds."""
    arguments = _parse()
    try:
        if arguments.command == "down":
            stack.stop()
            return 0
        running = stack.start()
        if arguments.command == "demo":
            return 0 if demo.run(running, arguments.source, arguments.format, arguments.quality) else 1
    except (EmulatorError, DeployError, BotoCoreError, ClientError, OSError) as error:
        print(f"{type(error).__name__}: {error}\nThe log is {Emulator(stack.HOME).log}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; `make down` stops the stack.", file=sys.stderr)
        return 130
    print(f"Ready: {running['api_url']}/transcoding/api/…")
    print(f"Console: {running['console_url']}\nDetails: {stack.HOME / 'stack.json'}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the stack, or bring the running one up to date")
    commands.add_parser("down", help="stop the stack; its data stays")
    one = commands.add_parser("demo", help="transcode one video on the stack and show how")
    one.add_argument("--source", default="", help="file, s3:// or http(s):// URL; a clip is made without it")
    one.add_argument("--format", default="m3u8", help="format of the result")
    one.add_argument("--quality", type=int, default=3, help="task_config_temp_id, 1 to 6")
    arguments = parser.parse_args()
    if arguments.command == "demo" and not (
        arguments.source == "" or "://" in arguments.source or Path(arguments.source).is_file()
    ):
        one.error(f"there is no file {arguments.source}")
    return arguments


sys.exit(main())
