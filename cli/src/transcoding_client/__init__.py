"""The Python client of the transcoding service.

    from transcoding_client import Client, Quality

    with Client("https://…/v1", "<API key>") as client:
        origin_url = client.upload("film.mov")
        task = client.wait_for(client.create(origin_url, quality=Quality.P720))
        print(task.target_url)

Every error that it raises is a `TranscodingError`.
"""

from transcoding_client.client import Client
from transcoding_client.errors import (
    ApiKeyError,
    FileChangedError,
    NotFoundError,
    RefusedError,
    TaskDeletedError,
    TaskFailedError,
    TranscodingError,
    UnavailableError,
    UnknownServiceError,
    UploadError,
    WaitTimeoutError,
)
from transcoding_client.models import Output, Quality, Rendition, Status, Task, TaskPage, UploadParts
from transcoding_client.service import Service, find_service
from transcoding_client.uploads import UploadProgress

__all__ = [
    "ApiKeyError",
    "Client",
    "FileChangedError",
    "NotFoundError",
    "Output",
    "Quality",
    "RefusedError",
    "Rendition",
    "Service",
    "Status",
    "Task",
    "TaskDeletedError",
    "TaskFailedError",
    "TaskPage",
    "TranscodingError",
    "UnavailableError",
    "UnknownServiceError",
    "UploadError",
    "UploadParts",
    "UploadProgress",
    "WaitTimeoutError",
    "find_service",
]
