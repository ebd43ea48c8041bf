"""The log of a build: a fixed script whose lines appear as its time passes, and an ending for each status."""

from __future__ import annotations

from airflow_provider_apify.emulator.objects import iso
from airflow_provider_apify.emulator.world import Build

_STEPS = (
    (0.10, "ACTOR: Pulling Docker image of the builder."),
    (0.15, "ACTOR: Extracting Actor documentation from README.md"),
    (0.20, "ACTOR: Building Docker image."),
    (0.25, "Step 1/6 : FROM apify/actor-node:20"),
    (0.30, "Step 2/6 : COPY package*.json ./"),
    (0.40, "Step 3/6 : RUN npm install --omit=dev --omit=optional"),
    (0.50, "\x1b[91mnpm warn deprecated inflight@1.0.6: This module is not supported, and leaks memory.\x1b[0m"),
)
_LAST_STEPS = (
    (0.70, "added 187 packages in 9s"),
    (0.75, "Step 4/6 : COPY . ./"),
    (0.80, "Step 5/6 : ENV APIFY_LOG_LEVEL=INFO"),
    (0.85, "Step 6/6 : CMD npm start --silent"),
    (0.90, "ACTOR: Pushing Docker image to repository."),
)
_ENDINGS = {
    "SUCCEEDED": ("ACTOR: Build finished.",),
    "FAILED": (
        "npm ERR! code E404",
        "npm ERR! 404 Not Found - left-padd",
        "npm ERR! 404  'left-padd@^1.3.0' is not in this registry.",
        "The command '/bin/sh -c npm install --omit=dev --omit=optional' returned a non-zero code: 1",
        "ACTOR: ERROR: Build failed.",
    ),
    "TIMED-OUT": ("ACTOR: ERROR: Build timed out and was stopped.",),
    "ABORTED": ("ACTOR: Build was aborted.",),
}


def log_lines(build: Build, now: float) -> list[str]:
    """The lines written until ``now`` (seconds since the epoch), each ended by a line feed, ANSI colours included."""
    until = now if build.finished_at is None else min(now, build.finished_at)
    lines = [_line(at, text) for at, text in _schedule(build) if at <= until]
    if build.finished_at is not None:
        lines += [_line(build.finished_at, text) for text in _ENDINGS[build.status]]
    return lines


def next_line_in(build: Build, now: float) -> float | None:
    """Seconds until the next line of an unfinished build; ``None``: not before it ends."""
    return next((at - now for at, _ in _schedule(build) if at > now), None)


def _schedule(build: Build) -> list[tuple[float, str]]:
    steps = _STEPS if build.outcome == "FAILED" else _STEPS + _LAST_STEPS
    return [(build.started_at + fraction * build.seconds, text) for fraction, text in steps]


def _line(at: float, text: str) -> str:
    return f"{iso(at)} {text}\n"
