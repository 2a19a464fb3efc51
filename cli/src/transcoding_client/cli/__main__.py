"""`python -m transcoding_client.cli`."""

from transcoding_client.cli.main import run

run()
