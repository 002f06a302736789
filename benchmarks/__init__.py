"""Measurements, each in one run and as ratios where there is something to compare with."""

import sys
from pathlib import Path

# The agent's side of the portal, which is a package of its own.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients" / "python"))
