"""NegGenBench: does a negative prompt remove an essential part of the object, and what does that cost the picture?

    python -m benchmarks.neggenbench --server http://127.0.0.1:8188 http://other:8188 \\
        --row "None=flux.json" --row "VSF Quality=vsf.json" scale=2.0 bias=0.2 --judge-model gpt-4o --out runs/first

Every row is a workflow in ComfyUI's API format with the slots {prompt}, {negative} and {seed}, and others that the row
itself or --set fills. The servers share the pictures, an OpenAI-compatible vision endpoint judges them, and the table is
printed with the paper's figures beside. Everything made is kept in --out: the same command goes on where it ended.
"""
from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
from tqdm.contrib.logging import logging_redirect_tqdm

from . import report
from .bench import Bench
from .comfy import Server
from .errors import BenchError
from .judge import PROMPT_VERSION, Judge
from .pairs import OWN_PAIRS, read_pairs
from .store import Store, write, write_json
from .workflow import Row, make_row

OPENAI = "https://api.openai.com/v1"
log = logging.getLogger("neggenbench")


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that is JSON, such as a number, is taken as such, another as a text."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BenchError(f"{text!r}: expected NAME=VALUE.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def rows(options: argparse.Namespace) -> list[Row]:
    """The rows that the command line names."""
    common = dict(map(setting, options.set)) | ({"output": options.output} if options.output else {})
    found = []
    for first, *rest in options.row:
        name, equals, file = first.partition("=")
        if not equals or not name or not file:
            raise BenchError(f"--row {first!r}: expected NAME=WORKFLOW.json, and after it the row's own NAME=VALUE.")
        found.append(make_row(name, Path(file), dict(map(setting, rest)), common, options.seeds))
    names = [row.name for row in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise BenchError(f"Two rows are called {', '.join(doubled)}: give each a name of its own.")
    used = {name for row in found for name in row.values} | {"output"}
    if unused := sorted(set(common) - used):
        raise BenchError(f"--set {', '.join(unused)}: no row's workflow has such a slot.")
    return found


def key(options: argparse.Namespace) -> str | None:
    """The judge's key, from the environment; an endpoint of one's own may need none."""
    name = options.key_env or "OPENAI_API_KEY"
    found, meant = os.environ.get(name), options.key_env or options.judge_url.rstrip("/") == OPENAI
    if not found and meant:
        raise BenchError(f"The environment variable {name} should hold the judge's key and is empty (--key-env names another).")
    return found if meant else None  # a key goes only where it was meant to go


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m benchmarks.neggenbench", description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--row", nargs="+", action="append", required=True, metavar=("NAME=WORKFLOW.json", "SLOT=VALUE"),
                       help="a row of the table, and values of its own: for its slots, output=NODE (the node, by id or title, "
                            "whose picture counts) and paper=NAME (the paper's row to stand beside)")
    found.add_argument("--set", nargs="+", default=[], metavar="SLOT=VALUE", help="values for slots of all rows")
    found.add_argument("--output", metavar="NODE", help="the node whose picture counts, for all rows (default: the only one)")
    found.add_argument("--server", nargs="+", default=[], metavar="URL", help="running ComfyUI servers")
    found.add_argument("--pairs", type=Path, default=OWN_PAIRS, help="prompt pairs in the authors' format (default: our own)")
    found.add_argument("--count", type=int, help="only the first so many pairs")
    found.add_argument("--seeds", type=int, default=2, help="pictures a pair and row (default 2, as in the paper)")
    found.add_argument("--first-seed", type=int, default=1, help="the first seed; the others follow (default 1)")
    found.add_argument("--out", type=Path, required=True, help="the run's folder")
    found.add_argument("--picture-timeout", type=float, default=600, metavar="S", help="seconds for a picture, waiting too")
    found.add_argument("--patience", type=float, default=600, metavar="S", help="seconds without a living server until the end")
    found.add_argument("--images-only", action="store_true", help="make the pictures, judge them another time")
    judge = found.add_argument_group("the judge")
    judge.add_argument("--judge-url", default=OPENAI, metavar="URL", help=f"base address (default {OPENAI})")
    judge.add_argument("--judge-model", metavar="NAME", help="a model that sees pictures and gives structured output")
    judge.add_argument("--key-env", metavar="VARIABLE", help="the environment variable with the key (default OPENAI_API_KEY, "
                                                             "for OpenAI's own address alone)")
    judge.add_argument("--judge-option", nargs="+", default=[], metavar="FIELD=JSON",
                       help="further fields of the request, as max_completion_tokens=2000; temperature=null leaves it out")
    judge.add_argument("--judge-workers", type=int, default=4, help="requests at a time (default 4)")
    judge.add_argument("--judge-retries", type=int, default=6, help="further attempts for an answer (default 6)")
    judge.add_argument("--price-in", type=float, default=0.0, metavar="P", help="price of a million tokens sent")
    judge.add_argument("--price-out", type=float, default=0.0, metavar="P", help="price of a million tokens received")
    return found


def check(options: argparse.Namespace) -> None:
    """What argparse does not see."""
    for url in (*options.server, options.judge_url):
        if not url.startswith(("http://", "https://")):
            raise BenchError(f"{url}: expected an address that begins with http:// or https://.")
    if not options.images_only and not options.judge_model:
        raise BenchError("Name the judge with --judge-model, or take --images-only.")
    for name in ("seeds", "judge_workers"):
        if getattr(options, name) < 1:
            raise BenchError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected 1 or more.")
    if options.judge_retries < 0:
        raise BenchError(f"--judge-retries {options.judge_retries}: expected 0 or more.")


async def run(options: argparse.Namespace) -> int:
    """The whole run; 1 where something is missing from the table."""
    check(options)
    bench = Bench(rows(options), read_pairs(options.pairs, options.count),
                  range(options.first_seed, options.first_seed + options.seeds), Store(options.out))
    async with aiohttp.ClientSession() as plain, aiohttp.ClientSession(trust_env=True) as behind_proxy:
        servers = [Server(url, plain) for url in dict.fromkeys(options.server)]
        judge = None if options.images_only else Judge(
            options.judge_url, options.judge_model, behind_proxy, key=key(options), retries=options.judge_retries,
            options=dict(map(setting, options.judge_option)))
        await bench.run(servers, judge, judge_workers=options.judge_workers, picture_seconds=options.picture_timeout,
                        patience=options.patience)
    for failure in bench.failed:
        log.error("Missing: %s", failure)
    if judge:
        conclude(bench, judge, options)
    return 1 if bench.failed else 0


def conclude(bench: Bench, judge: Judge, options: argparse.Namespace) -> None:
    """Write results.json and table.md, print the table and what this run has cost."""
    prices = options.price_in, options.price_out
    records = {row.name: found for row in bench.rows if (found := bench.records(row, judge))}
    summaries = [report.summary(row, records[row.name], prices) for row in bench.rows if row.name in records]
    pairs = f"{options.pairs.name}, {len(bench.pairs)} pairs x {len(bench.seeds)} seeds"
    text = report.table(summaries, judge=judge.model, pairs=pairs, prices=prices)
    write_json(options.out / "results.json", {
        "pairs": str(options.pairs), "count": len(bench.pairs), "seeds": list(bench.seeds),
        "judge": {"url": options.judge_url, "model": judge.model, "prompt_version": PROMPT_VERSION, "options": judge.options},
        "rows": summaries,
        "records": {name: [dataclasses.asdict(record) for record in found] for name, found in records.items()},
        "missing": bench.failed,
        "this_run": dataclasses.asdict(judge.spent) | {"cost": judge.spent.cost(*prices)},
    })
    write(options.out / "table.md", text.encode())
    print(text)
    print(f"This run asked the judge {judge.spent.requests} times: {judge.spent.prompt_tokens} tokens in, "
          f"{judge.spent.completion_tokens} out" + (f", cost {judge.spent.cost(*prices):.4f}." if any(prices) else "."))


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with logging_redirect_tqdm():
            return asyncio.run(run(options))
    except BenchError as error:
        print(f"neggenbench: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("neggenbench: stopped. Everything made so far is kept; the same command goes on from there.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
