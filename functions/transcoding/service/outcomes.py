"""What becomes of a task, or of a message, as the service counts it."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a message ended, or the sweep's look at a task; the values are names of metrics.

    Who ends a task as failed returns FAILED, and nobody else does: each failed task counts once.
    """

    SUCCEEDED = "TasksSucceeded"
    FAILED = "TasksFailed"
    #: The task was cut into parts, which are queued.
    FANNED_OUT = "TasksFannedOut"
    #: A part is done, and it was not the last one.
    PART_DONE = "PartsDone"
    #: The task was deleted, or taken over, while this worker had it.
    LOST = "TasksLost"
    #: The same of a part; also, its task has failed over another one.
    PART_LOST = "PartsLost"
    #: Another version has stored the parts, and this one cannot join them: the task is planned again.
    PLANNED_AGAIN = "TasksPlannedAgain"
    #: There was nothing to do.
    IDLE = "MessagesIdle"
    #: The sweep has looked at a task.
    SWEPT = "TasksSwept"
    #: No worker could deal with a message; with FAILED, as that ends the task.
    BURIED = "TasksBuried"
