"""Chains of three steps that do nothing, on DBOS, until the time is up; prints steps per second.

python dbos_chain.py POSTGRESQL_URL SECONDS NAME      (in DBOS's own environment)
"""

import sys
import time

from dbos import DBOS, DBOSConfig


@DBOS.step()
def one(value: int) -> int:
    return value + 1


@DBOS.workflow()
def chain(value: int) -> int:
    return one(one(one(value)))


def main() -> None:
    url, seconds, name = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    config: DBOSConfig = {
        "name": "chain",
        "system_database_url": url,
        "executor_id": name,
        "run_admin_server": False,
        "log_level": "ERROR",
    }
    DBOS(config=config)
    DBOS.launch()
    for _ in range(20):
        chain(0)
    print("ready", flush=True)
    sys.stdin.readline()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        assert chain(0) == 3
        steps += 3
    print(steps / (time.perf_counter() - began), flush=True)
    DBOS.destroy()


if __name__ == "__main__":
    main()
