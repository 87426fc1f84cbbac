"""The commands of build.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from tools.console import ROOT, ToolError, say

PROMPT = "an orange glossy sculpture on a white marble table, turquoise wall, studio light from the left"


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code: 0 done, 1 failed, 2 bad usage, 130 interrupted."""
    options = _parser().parse_args(arguments or ["zip"])
    command: Callable[[argparse.Namespace], int] = options.run
    try:
        return command(options)
    except ToolError as error:
        say(f"build.py: {error}")
        return 1
    except KeyboardInterrupt:
        say("\nbuild.py: interrupted; the next run picks it up.")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="build.py", description="Builds and runs Grisaille. Default: zip.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("zip", _zip, "Makes dist/grisaille-<version>.zip; Blender's own validator checks it where a Blender is set up.")
    demo = add("demo", _demo, "Makes a picture from the sample scene, and leaves it all in demo/.")
    demo.add_argument("--steps", type=int, default=12, help="denoising steps (default 12)")
    demo.add_argument("--size", default="512x512", help="the picture's size in pixels, WIDTHxHEIGHT (default 512x512)")
    demo.add_argument(
        "--prompt", default=PROMPT, help="what to paint: simple things, or the sample model will not know"
    )
    test = add("test", _test, "Runs every test, in the environments they belong to.")
    test.add_argument("--only", action="append", metavar="SUITE", help="only suites with this in their name")
    test.add_argument("--no-coverage", action="store_true", help="do not measure coverage")
    test.add_argument("pytest", nargs="*", help="after --: arguments for pytest, such as -- -k name -x")
    lint = add("lint", _lint, "Format, rules, types and the import contract.")
    lint.add_argument("--fix", action="store_true", help="let ruff format the files and repair what it can, first")
    bench = add("bench", _bench, "Runs the benchmarks and prints their ratios.")
    bench.add_argument("--only", action="append", metavar="NAME", help="only benchmarks with this in their name")
    bench.add_argument("--write", action="store_true", help="write the table to docs/benchmarks.md too")
    add("setup", _setup, "Makes the environments: .venv, .venv-5.2 and .venv-4.5.")
    add("lock", _lock, "Makes the lock files anew (for developers).")
    return parser


def _zip(_options: argparse.Namespace) -> int:
    from tools import environments, staging

    archive = staging.build_zip()
    blenders = [blender for blender in environments.BLENDERS if environments.is_current(blender)]
    for blender in blenders:
        staging.validate(archive, environments.python_of(ROOT / blender.name))
    checked = " and ".join(blender.purpose for blender in blenders)
    note = f"accepted by the validator of {checked}" if checked else "not validated: build.py setup brings a Blender"
    say(f"{archive.relative_to(ROOT)} ({archive.stat().st_size / 1000:.0f} kB; {note})")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from tools import demo

    return demo.run(options.prompt, options.size, options.steps)


def _test(options: argparse.Namespace) -> int:
    from tools import testing

    return testing.run(options.only or [], options.pytest, measure=not options.no_coverage)


def _lint(options: argparse.Namespace) -> int:
    from tools import lint

    return lint.run(fix=options.fix)


def _bench(options: argparse.Namespace) -> int:
    from tools import benchmarks

    return benchmarks.run(options.only or [], write=options.write)


def _setup(_options: argparse.Namespace) -> int:
    from tools import environments, libraries

    prepared = environments.prepare(environments.ALL)
    libraries.check_libraries()
    say(f"Ready: {', '.join(prepared.pythons) or 'nothing'}.")
    return 0 if environments.BACKEND.name in prepared.pythons else 1


def _lock(_options: argparse.Namespace) -> int:
    from tools import locks

    locks.make_locks()
    return 0
