"""Approve, reject and expire at the same moment, many times: how often was decided twice?

    python -m benchmarks.approval_races [--rounds 10000]

Three threads meet at each request, on a PostgreSQL of its own. A request is decided twice if the
log holds two resolutions of it, or if what was told to its subject is not what it ended as.
"""

import argparse
import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from benchmarks import fixtures

KIND = "bench.race"
AT_A_TIME = 500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    rounds = parser.parse_args().rounds
    with fixtures.postgresql() as database:
        fixtures.configure(database.url, lease=30, accounting="http://127.0.0.1:9")
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        twice = raced(rounds)
        connections.close_all()
    print(f"{rounds:,} requests, approved, rejected and expired at once: {twice} decided twice")
    return 1 if twice else 0


def raced(rounds: int) -> int:
    """How many requests were decided twice, by what was told and by the log."""
    from approvals import handlers

    told: list[tuple[Any, str]] = []
    handlers.on_resolved(
        KIND, lambda request, actor: told.append((request.pk, str(request.status)))
    )
    people = racers()
    twice = 0
    for begun in range(0, rounds, AT_A_TIME):
        requests = opened(begun, min(AT_A_TIME, rounds - begun))
        gate = Barrier(3, timeout=60)
        with ThreadPoolExecutor(3) as pool:
            list(
                pool.map(
                    lambda place, given=(requests, gate): race(place, people, *given), range(3)
                )
            )
        twice += told_wrongly(told, requests)
        told.clear()
        sys.stderr.write(f"\r{begun + len(requests):,} of {rounds:,}")
    sys.stderr.write("\n")
    return twice + logged_twice()


def racers() -> list[Any]:
    from django.contrib.auth.models import Group
    from django.db import transaction

    from accounts.models import User
    from approvals.services import ensure_tier
    from common.actors import SYSTEM

    with transaction.atomic():
        group = Group.objects.create(name="Racers")
        ensure_tier("race", actor=SYSTEM, title="Race", rank=99, quorum=1, groups=[group])
        people = [User.objects.create_user(f"racer-{number}") for number in range(2)]
        for person in people:
            person.groups.add(group)
    return people


def opened(begun: int, number: int) -> list[Any]:
    """Requests whose time runs out one after the other."""
    from approvals.services import NewApprovalRequest, open_request, tier_terms
    from audit.services.recorder import Subject
    from common.actors import SYSTEM

    terms = tier_terms("race")
    subjects = [Subject(KIND, str(begun + one), "race") for one in range(number)]
    return [
        open_request(
            NewApprovalRequest(kind=KIND, title="Race", subject=subject, tier=terms, snapshot={}),
            actor=SYSTEM,
        )
        for subject in subjects
    ]


def race(place: int, people: list[Any], requests: list[Any], gate: Barrier) -> None:
    """Meet the others at each request; approve it, reject it, or let its time run out."""
    from django.db import connection

    from approvals.models import Vote
    from approvals.services import cast_vote, expire_overdue
    from common.actors import Actor
    from common.errors import GovernanceError

    for request in requests:
        gate.wait()
        with contextlib.suppress(GovernanceError):
            if place == 2:
                expire_overdue(now=request.expires_at)
            else:
                answer = (Vote.Answer.APPROVE, Vote.Answer.REJECT)[place]
                actor = Actor.from_user(people[place])
                cast_vote(request.pk, actor=actor, answer=answer, reason="Race.")
    connection.close()


def told_wrongly(told: list[tuple[Any, str]], requests: list[Any]) -> int:
    from approvals.models import ApprovalRequest

    ids = [request.pk for request in requests]
    stored = dict(ApprovalRequest.objects.filter(pk__in=ids).values_list("pk", "status"))
    return (
        len(told)
        - len({pk for pk, _ in told})
        + sum(stored[pk] != status for pk, status in told)
        + sum(status == "pending" for status in stored.values())
    )


def logged_twice() -> int:
    from audit.models import Event

    types = ["approval.approved", "approval.rejected", "approval.expired"]
    found = Event.objects.filter(type__in=types, subject_kind=KIND)
    return found.count() - found.values("subject_id").distinct().count()


if __name__ == "__main__":
    sys.exit(main())
