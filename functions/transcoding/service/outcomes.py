"""The outcomes of messages, and of the sweep's look at tasks, as the service counts them."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a message ended, or the sweep's look at a task; the values are names of metrics.

    Only the function that ends a task as failed returns FAILED, so each failed task counts once.
    """

    SUCCEEDED = "TasksSucceeded"
    FAILED = "TasksFailed"
    #: The task was cut into parts, which are queued.
    FANNED_OUT = "TasksFannedOut"
    #: A part is done, and it was not the last one.
    PART_DONE = "PartsDone"
    #: The task was deleted, or taken over, while this worker had it.
    LOST = "TasksLost"
    #: The same for a part; also where its task has failed because of another part.
    PART_LOST = "PartsLost"
    #: Another version has stored the parts, and this one cannot join them: the task is planned again.
    PLANNED_AGAIN = "TasksPlannedAgain"
    #: There was nothing to do.
    IDLE = "MessagesIdle"
    #: The sweep has looked at a task.
    SWEPT = "TasksSwept"
    #: No worker could process a message; with FAILED, as that ends the task.
    BURIED = "TasksBuried"
    #: The receiver of a callback has taken it; has not taken it, and it is tried again; or no more.
    CALLBACK_DELIVERED = "CallbacksDelivered"
    CALLBACK_FAILED = "CallbacksFailed"
    CALLBACK_GIVEN_UP = "CallbacksGivenUp"
