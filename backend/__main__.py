"""The backend's commands. `serve` is the one that the add-on runs; the others are for people.

Printing the help imports nothing but argparse: what a command needs is imported when it runs.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .commands import batch, bench, diagnose, enhance, generate, plan, prompt

if TYPE_CHECKING:
    from .jobs import Producer
    from .serving import ServeConfig


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="grisaille-backend", description="Grisaille's inference backend.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "serve",
        help="serve the Blender that started it",
        description="Reads its configuration as one line of JSON from stdin and ends when stdin does.",
    )
    generate.add_to(commands)
    enhance.add_to(commands)
    diagnose.add_to(commands)
    plan.add_to(commands)
    models = commands.add_parser("models", help="work with model files").add_subparsers(dest="action", required=True)
    quantize = models.add_parser(
        "quantize",
        help="write a transformer as GGUF of another number format",
        description="Reads safetensors (bf16, fp16, fp8; one file or the index of its shards) or GGUF.",
    )
    quantize.add_argument("source", type=Path)
    quantize.add_argument("target", type=Path, help="a .gguf that is not there yet")
    quantize.add_argument("--type", default="Q8_0", help="Q8_0 (the default), Q5_1, Q5_0, Q4_1, Q4_0, BF16, F16 or F32")
    prompt.add_to(commands)
    batch.add_to(commands)
    bench.add_to(commands)
    options = parser.parse_args(arguments)
    if hasattr(options, "run"):
        sys.exit(options.run(options))
    if options.command == "models":
        sys.exit(_quantize(options))
    from .serving import serve_process

    serve_process(_production)


def _quantize(options: argparse.Namespace) -> int:
    """Returns the exit code: 0 done, 1 failed, 2 called wrongly."""
    # torch takes seconds to import, and only this command needs it here.
    from .flux.quantise_file import quantise_file
    from .wire import FailureError, FailureKind

    def show(number: int, count: int) -> None:
        print(f"\r{number} of {count} tensors", end="" if number < count else "\n", file=sys.stderr, flush=True)

    try:
        quantise_file(options.source, options.target, options.type.upper(), show)
    except FailureError as error:
        print(f"{error.failure.message} {error.failure.hint}", file=sys.stderr)
        return 2 if error.failure.kind == FailureKind.BAD_REQUEST else 1
    print(f"{options.target}: {options.target.stat().st_size / 1e6:,.1f} MB")
    return 0


def _production(config: ServeConfig) -> Producer:
    # Imported here: torch takes seconds, and being ready must not wait for it.
    from .production import Production
    from .serving import CACHE_FOLDER

    data = config.data_folder
    _own_process(data / "programs")
    return Production(config.models_folder, config.device, cache_folder=data / CACHE_FOLDER, maps_folder=data / "maps")


def _own_process(programs: Path) -> None:
    """Says to torch and Triton what they read once, in a process that is nobody else's.

    programs: where they keep what they have compiled, instead of in the home and the temporary folder.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(programs / "torch"))
    os.environ.setdefault("TRITON_CACHE_DIR", str(programs / "triton"))
    # Weights that come and go leave no gaps. Windows has no such memory.
    if os.name != "nt" and "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


if __name__ == "__main__":
    main()
