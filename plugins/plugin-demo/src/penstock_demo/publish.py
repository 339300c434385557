"""Process 1 of the demo: publishes the packets of a video. `penstock demo` starts it.

It writes two lines of JSON to its standard output: one when it is ready, one with its result. It ends when its standard
input is closed, by its parent or by the parent's death.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from penstock.errors import PenstockError
from penstock.run.run import Run
from penstock_demo.pipelines import Scene, publishing


def main(scene: Scene) -> int:
    """Publish until the video ends; return the exit status."""
    try:
        with publishing(scene).start() as run:
            threading.Thread(target=_stop_when_orphaned, args=(run,), daemon=True).start()
            _send(event="ready")
            while (report := run.wait(1.0)) is None:
                pass
    except (PenstockError, OSError) as error:
        _send(event="failed", error=str(error))
        return 1
    _send(event="ended", stored=report.stored, problems=report.problems, report=str(report))
    return report.exit_code


def _stop_when_orphaned(run: Run) -> None:
    sys.stdin.buffer.read()
    run.abort()


def _send(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main(Scene.from_json(sys.argv[1])))
