"""All scenarios, in the tables of the page in which they stand."""

from __future__ import annotations

from tests.comparison._play import Scenario
from tests.comparison.scenarios_program import PROGRAM
from tests.comparison.scenarios_provider import PROVIDER, WORK
from tests.comparison.scenarios_tokens import TOKENS

__all__ = ["SCENARIOS", "TABLES"]

TABLES: dict[str, tuple[Scenario, ...]] = {"work": WORK, "provider": PROVIDER, "tokens": TOKENS, "program": PROGRAM}
SCENARIOS: tuple[Scenario, ...] = tuple(scenario for table in TABLES.values() for scenario in table)
