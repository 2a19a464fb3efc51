"""The account's default event bus (EventBridge)."""

from __future__ import annotations

from collections.abc import Sequence

from transcoding.data import clients

SOURCE = "transcoding"
DETAIL_TYPE = "Transcode State Change"
#: The most that EventBridge takes in a request.
_BATCH = 10


class EventBus:
    """Puts events; an event of a task has a few KB, of 256 that EventBridge takes."""

    def __init__(self) -> None:
        self._events = clients.events()

    def put(self, details: Sequence[str]) -> set[int]:
        """Put events with these details (JSON) and return the places of those that were not taken."""
        failed = set()
        for first in range(0, len(details), _BATCH):
            batch = details[first : first + _BATCH]
            entries = [{"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": detail} for detail in batch]
            with clients.availability("the event bus"):
                # A request of which only some events are taken still answers 200.
                answers = self._events.put_events(Entries=entries)["Entries"]
            failed |= {first + place for place, answer in enumerate(answers) if "ErrorCode" in answer}
        return failed
