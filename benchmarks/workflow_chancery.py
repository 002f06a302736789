"""The same chain on the portal's engine, until the time is up; prints steps per second.

    python -m benchmarks.workflow_chancery SECONDS          (with the database in the environment)

Each step is decided by policy, its attempt committed before the call, and everything recorded.
"""

import sys
import time

import django

django.setup()

from actions.models import Run
from agents.directory import directory
from agents.tokens import Caller
from common.actors import SYSTEM
from common.ids import uuid7
from tools.connectors import in_process
from workflows.services import runs, worker

WORKFLOW = """\
workflow: chain
title: Chain
schema: 1
roles: [bench]
inputs: {type: object, required: [value], properties: {value: {type: integer}}}
steps:
  one: {tool: noop.add, with: {value: "${ inputs.value }"}}
  two: {needs: [one], tool: noop.add, with: {value: "${ int(steps.one.output.value) }"}}
  three: {needs: [two], tool: noop.add, with: {value: "${ int(steps.two.output.value) }"}}
output: {value: "${ steps.three.output.value }"}
"""


def add(tool: str, arguments: "dict[str, int]", call: object) -> "dict[str, int]":
    return {"value": arguments["value"] + 1}


def main() -> None:
    in_process.register("noop", add)  # type: ignore[arg-type]  # a handler of one shape
    known = directory.current().identities["bench.prod"]
    caller = Caller(known, frozenset({"tools"}), jti="", epoch=known.epoch, expires_at=0)

    def chain() -> None:
        asked = runs.Start(
            workflow="chain",
            inputs={"value": 0},
            key=str(uuid7()),
            initiator_kind=Run.Initiator.AGENT,
            initiator="bench",
        )
        run, _ = runs.start(caller, asked, actor=SYSTEM)
        assert worker.run_until_idle(run.pk) == 3

    for _ in range(20):
        chain()
    print("ready", flush=True)
    sys.stdin.readline()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < float(sys.argv[1]):
        chain()
        steps += 3
    print(steps / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
