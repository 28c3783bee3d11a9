"""Are there known vulnerabilities in what requirements.lock pins?

    python -m tests.supply.audit        (make audit)

pip-audit asks the package index's database, then OSV's. It runs in an environment of its own and is no dependency. Exit
status: 0 every pin was looked up and none has a known vulnerability; 1 some have; 3 not audited, since no database
could be reached or some pins were not looked up. Not audited is not clean.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 3
LOCK = Path(__file__).parents[2] / "requirements.lock"
SERVICES = ("pypi", "osv")


@dataclass(frozen=True)
class Audit:
    """What one database said."""

    looked_up: frozenset[str]
    skipped: frozenset[str]
    found: tuple[str, ...]  # "torch 2.8.0: PYSEC-... (mended in ...)"


Ask = Callable[[str], str]
"""A database's name to pip-audit's JSON; "" where it gives none."""


def ask(service: str) -> str:
    """pip-audit's JSON on the lock; "" when it cannot be installed or cannot reach the database."""
    command = ["uv", "tool", "run", "pip-audit", "--requirement", str(LOCK), "--disable-pip", "--require-hashes",
               "--format", "json", "--progress-spinner", "off", "--timeout", "15", "--vulnerability-service", service,
               ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - a fixed command


def read(answer: str) -> Audit | None:
    """pip-audit's JSON; None where there is none."""
    try:
        pins = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        return None
    found = tuple(
        f"{pin['name']} {pin['version']}: {flaw['id']} (mended in {', '.join(flaw['fix_versions']) or 'none yet'})"
        for pin in pins
        for flaw in pin.get("vulns", ())
    )
    skipped = frozenset(pin["name"] for pin in pins if "skip_reason" in pin)
    return Audit(frozenset(pin["name"] for pin in pins) - skipped, skipped, found)


def audit(ask_service: Ask = ask, services: Sequence[str] = SERVICES) -> tuple[int, str]:
    """Exit status, and what to say: of the first database that knows every pin, else of what the others knew."""
    answers = [answer for service in services if (answer := read(ask_service(service)))]
    found = sorted({flaw for answer in answers for flaw in answer.found})
    if found:
        return VULNERABLE, "\n".join(
            [*found, "known vulnerabilities: renew the pins with `make lock`, then `make test`"]
        )
    looked_up = frozenset().union(*(answer.looked_up for answer in answers))
    left = frozenset().union(*(answer.skipped for answer in answers)) - looked_up
    if not looked_up:
        return NOT_AUDITED, "not audited: no vulnerability database can be reached from here; run it where one can"
    if left:
        return NOT_AUDITED, f"not audited: no database knows {', '.join(sorted(left))}; look these up by hand"
    return CLEAN, f"no known vulnerability in the {len(looked_up)} pinned packages that this platform installs"


def main() -> None:
    """Asks and says."""
    status, says = audit()
    print(says, file=sys.stderr if status else sys.stdout)
    sys.exit(status)


if __name__ == "__main__":
    main()
