"""The backend's commands. `serve` is the one that the add-on runs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .jobs import Producer
from .serving import ServeConfig, serve_process


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="grisaille-backend", description="Grisaille's inference backend.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "serve",
        help="serve the Blender that started it",
        description="Reads its configuration as one line of JSON from stdin and ends when stdin does.",
    )
    parser.parse_args(arguments)
    serve_process(_production)


def _production(config: ServeConfig) -> Producer:
    # Imported here: torch takes seconds, and being ready must not wait for it.
    from .production import Production

    return Production(config.models_folder, config.device)


if __name__ == "__main__":
    main()
