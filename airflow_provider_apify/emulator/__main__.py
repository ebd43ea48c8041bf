"""The command line: ``python -m airflow_provider_apify.emulator``."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from airflow_provider_apify.emulator.server import DEFAULT_TOKEN, Emulator


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_apify.emulator",
        description="A local emulator of Apify's API for Actor builds and runs.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3333, help="port to listen on; 0: any free one")
    parser.add_argument("--token", default=DEFAULT_TOKEN, help="the API token that is valid")
    parser.add_argument("--build-seconds", type=float, default=5.0, help="how long a build takes")
    parser.add_argument("--run-seconds", type=float, default=5.0, help="how long a run takes")
    parser.add_argument("--memory-mbytes", type=int, default=65536, help="memory of the account; a build takes 4096")
    parser.add_argument("--max-concurrent-jobs", type=int, default=32, help="with as many, no further run starts")
    parser.add_argument("--tag-seconds", type=float, default=0.0, help="how long after a success the build's tag moves")
    parser.add_argument("--full-lists", action="store_true", help="show all fields in lists that Apify's API allows")
    options = parser.parse_args(arguments)

    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    emulator = Emulator(**vars(options))
    try:
        emulator.start()
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
        parser.exit(1, f"The emulator cannot listen on {options.host}:{options.port}: {reason}.\n")
    sys.stdout.write(f"{emulator.url}\n")
    sys.stdout.flush()
    signal.sigwait(ending)
    emulator.stop()


if __name__ == "__main__":
    main()
