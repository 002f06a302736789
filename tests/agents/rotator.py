"""A process beside two web workers that gives orders as they come in, one per line."""

import sys
from datetime import timedelta

import django

django.setup()

from django.utils import timezone  # noqa: E402

from agents.models import AgentIdentity, Halt  # noqa: E402
from agents.services import federation, signing_keys  # noqa: E402
from agents.services.halts import lift_halt, place_halt  # noqa: E402
from common.actors import SYSTEM  # noqa: E402


def rotate() -> None:
    signing_keys.prepare("prod", actor=SYSTEM)
    # The wait is for verifiers that hold the published keys; the portal's own do not.
    later = timezone.now() + signing_keys.READY_AFTER + timedelta(seconds=1)
    signing_keys.activate("prod", actor=SYSTEM, reason="It is time.", now=later)


def bind(*, required: bool = True) -> None:
    for identity in AgentIdentity.objects.all():
        federation.require_dpop(identity.pk, actor=SYSTEM, required=required)


def unbind() -> None:
    bind(required=False)


def halt() -> None:
    place_halt(Halt.Kind.GLOBAL, actor=SYSTEM, reason="Stop.")


def lift() -> None:
    lift_halt(Halt.objects.in_force().get().pk, actor=SYSTEM, reason="Go on.")


ORDERS = {"rotate": rotate, "bind": bind, "unbind": unbind, "halt": halt, "lift": lift}

for line in sys.stdin:
    ORDERS[line.strip()]()
    print("done", flush=True)  # noqa: T201
