"""The tasks by name."""

from __future__ import annotations

from train.settings import TaskName
from train.tasks import asr, lip2speech, vsr
from train.tasks.task import Task

TASKS: dict[TaskName, Task] = {
    "vsr": vsr.TASK,
    "asr": asr.TASK,
    "lip2speech": lip2speech.TASK,
}
