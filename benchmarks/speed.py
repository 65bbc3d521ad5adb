"""What a negative prompt costs: VSF and its rivals over the same model without a negative.

    python dev.py bench                              all shapes that this machine holds, all methods
    python dev.py bench --shapes flux1 --repeats 9   one of them
    python dev.py bench --quick                      a toy, to try the benchmark

Two tables. Forward: one step of ComfyUI's sampler at CFG 1 (CFG: at CFG 3), for one negative of 12 tokens. Attention: the
attention that the text takes part in, alone, for more negatives and longer ones. Ratios are medians over paired runs: every
method runs once a round, each is divided by the same round's model without a negative. `floor` is the token share: the time
that the negative's tokens take as any other text would. Every method uses the fastest kernel that it can.

Writes results.json, table.md and speed.png into --out.
"""
from __future__ import annotations

import argparse
import json
import logging
import os
import pathlib
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "testbed"), str(ROOT / "tests" / "helpers"), str(ROOT / "benchmarks")]

import comfy_env  # noqa: E402, F401  (before comfy)
import pipeline  # noqa: E402

NODES = pipeline.pack_nodes(ROOT)  # loads the pack as vsf_pack

import cases  # noqa: E402
import comfy.ldm.modules.attention as comfy_attention  # noqa: E402
import comfy.model_management  # noqa: E402
import numpy as np  # noqa: E402
import rivals  # noqa: E402
import shapes  # noqa: E402
import tiny  # noqa: E402
import torch  # noqa: E402
from shapes import SHAPES, Shape  # noqa: E402
from tqdm import tqdm  # noqa: E402
from vsf_pack.nodes.glue.attention.override import VSFAttention  # noqa: E402
from vsf_pack.nodes.glue.reading.conditioning import NegativePrompt  # noqa: E402
from vsf_pack.nodes.glue.sampling import seen  # noqa: E402
from vsf_pack.nodes.glue.sampling.patch import attach  # noqa: E402
from vsf_pack.vsf_core.layout import Context, Layout, Negative, Segment  # noqa: E402

WORDS = 12  # tokens of the one negative in the forward table
PROMPT = 28  # words of the prompt, which a context repeats
COUNTS, LENGTHS = (1, 2, 4, 8), (4, 12, 64, 256)
METHODS: dict[str, tuple[Callable[..., VSFAttention], float]] = {
    "VSF, bias 0": (VSFAttention, 0.0),
    "VSF, bias 0.2": (VSFAttention, 0.2),
    "VSF without log-sum-exp, bias 0": (rivals.ConcatenatedVSF(), 0.0),
    "VSF without log-sum-exp, bias 0.2": (rivals.ConcatenatedVSF(), 0.2),
    "VSF, dense mask (the authors' form)": (rivals.DenseVSF(), 0.2),
    "NAG": (rivals.NAG(), 0.0),
    "NASA": (rivals.NASA(), 0.0),
}
"""name -> (attention, bias); CFG is apart, because it is no attention."""


RECORDED = ", recorded for a heat map"


def noting_attention(*args: Any) -> VSFAttention:
    """VSF's attention as it is where a heat map is in the graph."""
    attention = VSFAttention(*args)
    attention.ticket = torch.zeros(1)
    return attention


class Peak:
    """The most memory in use since begin(), above what was in use then, in bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def begin(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
        else:
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew (proc(5))
            self.before = self._status("VmRSS")

    def end(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) - self.before
        return self._status("VmHWM") - self.before

    @staticmethod
    def _status(name: str) -> int:
        lines = pathlib.Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measured(run: Callable[[], Any], device: torch.device) -> tuple[float, int]:
    """Seconds and peak bytes of one call."""
    peak = Peak(device)
    peak.begin()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, peak.end()


def rounds(runs: dict[str, Callable[[], Any]], repeats: int, device: torch.device, title: str,
           methods: list[str] | None) -> list[dict[str, Any]]:
    """One row a method (of `methods`, None for all): medians of the ratios to the first one, round by round, after a round
    that does not count."""
    first, *others = runs
    if unknown := set(methods or ()) - set(others):
        raise SystemExit(f"no such method: {', '.join(sorted(unknown))}; there are {', '.join(others)}")
    runs = {name: runs[name] for name in (first, *(n for n in others if methods is None or n in methods))}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, list[int]] = {name: [] for name in runs}
    with tqdm(total=(repeats + 1) * len(runs), desc=title, mininterval=2) as bar, torch.inference_mode():
        for turn in range(repeats + 1):
            for name, run in runs.items():
                taken, peak = measured(run, device)
                if turn:
                    seconds[name].append(taken)
                    peaks[name].append(peak)
                bar.update()
    base, base_peak = seconds[next(iter(runs))], statistics.median(peaks[next(iter(runs))])

    def recording(name: str) -> list[float] | None:
        """What being recorded adds to a method: quartiles of the ratios to the same round's run of it that is not."""
        plain = seconds.get(name.removesuffix(RECORDED))
        if not name.endswith(RECORDED) or plain is None:
            return None
        return np.percentile([a / b for a, b in zip(seconds[name], plain, strict=True)], (25, 50, 75)).tolist()
    return [{"method": name, "seconds": statistics.median(seconds[name]), "peak_bytes": statistics.median(peaks[name]),
             "time_ratio": statistics.median(a / b for a, b in zip(seconds[name], base, strict=True)),
             "memory_ratio": statistics.median(peaks[name]) / max(base_peak, 1), "recording": recording(name)} for name in runs]


def forward(shape: Shape, repeats: int, device: torch.device, dtype: torch.dtype,
            methods: list[str] | None = None) -> list[dict[str, Any]]:
    """A whole step of the sampler, for every method."""
    case = shape.case
    plain = cases.build(case, dtype)
    if device.type != "cpu":
        plain.load_device = device
    positive, negative = case.conditioning(shape.text, 1), case.conditioning(shape.text, 2)

    def step(model: Any, cfg: float = 1.0) -> Callable[[], Any]:
        return lambda: case.sample(model, positive, negative, cfg=cfg, steps=1)

    def guided(attention: Callable[..., VSFAttention], bias: float) -> Any:
        prompt = NegativePrompt(tiny.tokens(WORDS, 3, width=case.width), shape.scale, bias, 0.0, 1.0, case.options(WORDS, 3))
        return attach(plain, [prompt], attention)

    default = plain.clone()
    default.model_options["transformer_options"]["optimized_attention_override"] = (
        lambda func, *args, **kwargs: comfy_attention.attention_sub_quad.__wrapped__(*args, **kwargs))
    start = time.perf_counter()
    guided(VSFAttention, 0.2)
    node = time.perf_counter() - start
    runs = {"no negative": step(plain)}
    runs |= {name: step(guided(*settings)) for name, settings in METHODS.items()}
    context = case.conditioning(PROMPT + WORDS, 1)
    runs["VSF context"] = step(NODES["VSFContrast"].execute(plain, context, 1.0, 0.0, 1.0).args[0])

    def recorded(run: Callable[[], Any]) -> Callable[[], Any]:
        def in_record() -> None:
            with seen.recorded():
                run()
        return in_record

    runs |= {f"{name}{RECORDED}": recorded(runs[name]) for name in ("VSF, bias 0.2", "VSF context")}
    runs["CFG"] = step(plain, cfg=3.0)
    if device.type == "cpu":
        runs["no negative, by ComfyUI's default for a CPU (sub-quadratic)"] = step(default)
    rows = rounds(runs, repeats, device, case.name, methods)
    comfy.model_management.unload_all_models()
    common = {"shape": case.name, "negatives": 1, "tokens": WORDS, "floor": floor(shape, WORDS), "node_seconds": node}
    return [row | common for row in rows]


def floor(shape: Shape, tokens: int) -> float:
    """The share of the negative's tokens: in cross-attention they stand beside the prompt's, else beside the picture's too."""
    return 1 + tokens / (shape.text + (0 if shape.cross else shape.image))


def attention(shape: Shape, count: int, length: int, repeats: int, device: torch.device,
              dtype: torch.dtype, methods: list[str] | None = None) -> list[dict[str, Any]]:
    """One attention, as a model of this shape calls it, for every method."""
    text, extra = Segment("P", shape.text), tuple(Segment(c, length) for c in range(count))
    queries = (Segment("I", None),) if shape.cross else None
    segments = (*extra, text) if shape.cross else (*extra, text, Segment("I", None))

    def random(tokens: int, seed: int) -> torch.Tensor:
        g = torch.Generator(device).manual_seed(seed)
        flat = torch.randn(1, tokens, shape.heads * shape.dim, generator=g, device=device, dtype=dtype)
        return flat.unflatten(-1, (shape.heads, shape.dim)).transpose(1, 2)

    def tensors(more: int) -> list[torch.Tensor]:
        keys = more + shape.text + (0 if shape.cross else shape.image)
        return [random(shape.image if shape.cross else keys, 1), random(keys, 2), random(keys, 3)]

    plain, long, longest = tensors(0), tensors(count * length), tensors(count * (PROMPT + length))
    func = comfy_attention.attention_pytorch.__wrapped__

    def run(make: Callable[..., VSFAttention], bias: float, region: torch.Tensor | None = None) -> Callable[[], Any]:
        layout = Layout(segments, tuple(Negative(shape.scale, bias, region) for _ in range(count)), queries)
        return lambda: make([layout], None)(func, *long, shape.heads, skip_reshape=True)

    runs: dict[str, Callable[[], Any]] = {"no negative": lambda: func(*plain, shape.heads, skip_reshape=True)}
    runs |= {name: run(*settings) for name, settings in METHODS.items()}
    lanes = tuple(Segment(c, PROMPT + length) for c in range(count))
    words = (Segment("P", PROMPT), Segment("B", shape.text - PROMPT))
    mask = torch.linspace(0, 1, shape.image, device=device)[None]

    def in_context(region: torch.Tensor | None) -> Layout:
        return Layout((*lanes, *words) if shape.cross else (*lanes, *words, Segment("I", None)),
                      tuple(Context(1.0, region=region) for _ in range(count)), queries)
    contexts, masked = in_context(None), in_context(mask)
    runs["VSF context"] = lambda: VSFAttention([contexts], None)(func, *longest, shape.heads, skip_reshape=True)
    runs["VSF, bias 0.2, under a mask"] = run(VSFAttention, 0.2, mask)
    runs["VSF context, under a mask"] = lambda: VSFAttention([masked], None)(func, *longest, shape.heads, skip_reshape=True)
    runs[f"VSF, bias 0.2{RECORDED}"] = run(noting_attention, 0.2)
    runs[f"VSF context{RECORDED}"] = lambda: noting_attention([contexts], None)(func, *longest, shape.heads, skip_reshape=True)
    twice = [torch.cat([t, t]) for t in plain]
    runs["CFG"] = lambda: func(*twice, shape.heads, skip_reshape=True)
    rows = rounds(runs, repeats, device, f"{shape.case.name}, {count} x {length} tokens", methods)
    return [row | {"shape": shape.case.name, "negatives": count, "tokens": length, "floor": floor(shape, count * length)}
            for row in rows]


def tables(results: dict[str, Any]) -> str:
    """Both tables, in markdown."""
    lines = [f"{results['machine']}", ""]
    for part in ("forward", "attention"):
        lines += [f"### {part.capitalize()}", "", "| shape | negatives x tokens | method | time | peak memory | floor |",
                  "|---|---|---|---|---|---|"]
        lines += [f"| {r['shape']} | {r['negatives']} x {r['tokens']} | {r['method']} | {r['time_ratio']:.3f} | "
                  f"{r['memory_ratio']:.2f} | {r['floor']:.3f} |" for r in results[part]]
        lines.append("")
    for r in (*results["forward"], *results["attention"]):
        if r["recording"]:
            low, middle, high = r["recording"]
            lines.append(f"- {r['shape']}, {r['method']}: {middle:.3f} of the same without (quartiles {low:.3f} to {high:.3f})")
    nodes = {r["shape"]: f"{r['shape']} {1000 * r['node_seconds']:.1f} ms" for r in results["forward"]}
    lines.append(f"Attaching the negative to the model, once: {', '.join(nodes.values())}.")
    return "\n".join(lines)


def plot(results: dict[str, Any], path: pathlib.Path) -> None:
    """Bars of the forward table."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    names = list(dict.fromkeys(r["shape"] for r in results["forward"]))
    figure, axes = pyplot.subplots(1, len(names), figsize=(4 * len(names) + 2, 4), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        rows = [r for r in results["forward"] if r["shape"] == name and not r["method"].startswith("no negative")]
        ax.barh([r["method"] for r in rows], [r["time_ratio"] - 1 for r in rows], left=1,
                color=["#2a78d6" if r["method"].startswith("VSF, bias") else "#b0b0ab" for r in rows])
        ax.axvline(1, color="#52514e", linewidth=1)
        ax.invert_yaxis()
        ax.set_title(name)
        ax.set_xlabel("time of a step over no negative")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def machine(device: torch.device, dtype: torch.dtype) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return (f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}; "
            f"`python dev.py bench {shlex.join(sys.argv[1:])}`")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=None)
    parser.add_argument("--parts", nargs="+", choices=("attention", "forward"), default=("attention", "forward"))
    parser.add_argument("--methods", nargs="+", default=None, help="as the tables name them; all")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--attention-repeats", type=int, default=9)
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default=None)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--quick", action="store_true", help="a toy model, once: tries the benchmark, measures nothing")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / ".cache" / "bench")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    device = comfy.model_management.get_torch_device()
    dtype = getattr(torch, options.dtype or ("bfloat16" if device.type == "cuda" else "float32"))
    names = options.shapes or [n for n in SHAPES if n != ("wan2.2" if device.type == "cpu" else "wan2.1-1.3b")]
    chosen = [SHAPES[name] for name in names]
    counts, lengths, repeats, attention_repeats = options.counts, options.lengths, options.repeats, options.attention_repeats
    if options.quick:
        chosen, counts, lengths, repeats, attention_repeats = [shapes.toy(chosen[0])], (1, 2), (4,), 1, 1
    results: dict[str, Any] = {"machine": machine(device, dtype), "forward": [], "attention": []}
    options.out.mkdir(parents=True, exist_ok=True)
    for shape in chosen:
        grid = [(1, n) for n in lengths] + [(c, WORDS) for c in counts if c > 1]
        for count, length in grid if "attention" in options.parts else ():
            results["attention"] += attention(shape, count, length, attention_repeats, device, dtype, options.methods)
        if "forward" in options.parts:
            results["forward"] += forward(shape, repeats, device, dtype, options.methods)
        (options.out / "results.json").write_text(json.dumps(results, indent=1) + os.linesep)
    text = tables(results)
    (options.out / "table.md").write_text(text)
    if results["forward"]:
        plot(results, options.out / "speed.png")
    print(text)


if __name__ == "__main__":
    main()
