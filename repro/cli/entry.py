"""What all entry points share: errors as one clear sentence, seeds on the command line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EXIT_USER_ERROR = 2


def run(main: Callable[[], int | None]) -> None:
    """Runs `main` and exits: 0, its own status, or 2 with one sentence for a mistake that the user can mend."""
    if not Path("experiments").is_dir():
        sys.exit(_complain(f"{Path.cwd()} is not the project's folder: it has no experiments; "
                           "cd to the folder with dvc.yaml"))  # fmt: skip
    try:
        status = main() or 0
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough: `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains again at its end
        status = 128 + signal.SIGPIPE
    except FileNotFoundError as error:
        lost = error.filename
        remedy = f"{lost} is missing; where it belongs to the project: git checkout -- {lost}"
        status = _complain(remedy if lost else str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        status = _complain(f"{where}{error.strerror or error}; check that the place exists, is writable and has room")
    except (ValueError, RuntimeError) as error:
        status = _complain(str(error))
    except KeyboardInterrupt:
        status = _complain("interrupted; run the same command again to go on from the last saved state", 130)
    sys.exit(status)


def _complain(sentence: str, status: int = EXIT_USER_ERROR) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return status
