"""vLLM's schedulers, with what Hotshoe adds to them. They live in the core process."""

from __future__ import annotations

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler

from hotshoe.serve.going_on import GoingOn
from hotshoe.serve.overflow import EndOverflowed
from hotshoe.serve.pacing import Paced
from hotshoe.serve.room import Roomy
from hotshoe.serve.structures.patience import Patient


class StepwiseScheduler(GoingOn, Paced, Patient, EndOverflowed, Roomy, Scheduler):  # type: ignore[misc]
    """Where vLLM plans one step at a time."""


class AheadScheduler(Paced, Patient, EndOverflowed, Roomy, AsyncScheduler):  # type: ignore[misc]
    """Where vLLM plans a step ahead."""
