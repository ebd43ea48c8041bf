"""
Run all parts, or one of them; exit code 0 if every claim holds, 1 if not, 2 if something has to be installed.

Tables go to standard output, the same as JSON into ``bench/results``.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time

from bench.scale import distributed, servers, short, table, triggerer

PARTS = {"triggerer": triggerer, "celery": distributed, "short": short, "postgresql": table}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("part", nargs="?", choices=sorted(PARTS), help="only this one")
    parser.add_argument("--tasks", type=int, help="how many builds or runs (default: 1000 in the triggerer)")
    parser.add_argument("--build-seconds", type=float, help="how long each takes")
    options = parser.parse_args()
    # Both end the run in the same orderly way: every process is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - started:6.1f} s  {line}", flush=True)

    try:
        holds, missing = True, False
        for name in [options.part] if options.part else PARTS:
            part = PARTS[name]
            try:
                seconds = options.build_seconds or part.BUILD_SECONDS
                report = part.run(options.tasks or part.TASKS, seconds, part.LIMIT, say)
            except servers.Missing as reason:
                print(f"{name} is skipped. {reason}", file=sys.stderr)
                missing = True
                continue
            full = options.tasks in (None, part.TASKS)
            print(f"\n{report}\n", flush=True)
            report.save(f"scale-{name}" if full else f"scale-{name}-{options.tasks}")
            holds &= report.holds
        return 1 if not holds else 2 if missing else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
