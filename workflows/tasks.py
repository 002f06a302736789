from uuid import UUID

from celery import shared_task

from workflows.services import rollouts, schedules, sweeper, worker


# Acknowledged early: the message is a hint, the database holds the work, the sweeper finds it.
@shared_task(name="workflows.drive")
def drive(run_id: str) -> int:
    return worker.run_until_idle(UUID(run_id))


@shared_task(name="workflows.sweep")
def sweep() -> int:
    return sweeper.sweep()


@shared_task(name="workflows.fire_schedules")
def fire_schedules() -> int:
    return schedules.fire_due()


@shared_task(name="workflows.guard_rollouts")
def guard_rollouts() -> int:
    return rollouts.guard()
