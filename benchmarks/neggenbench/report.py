"""What a run found, as means with intervals and as the paper's table."""
from __future__ import annotations

import dataclasses
import math
import random
import statistics
from typing import Any

from .judge import Usage
from .workflow import Row

# Positive, negative and quality score of the paper's table; judged by Llama 4 Maverick, on the authors' own 200 pairs.
PAPER: dict[str, tuple[float | None, float | None, float | None]] = {
    "VSF Strong": (0.870, 0.545, 0.952),
    "VSF Quality": (0.980, 0.420, 0.986),
    "NAG": (0.993, 0.220, 0.968),
    "NAG Strong": (0.975, 0.320, 0.901),
    "NASA": (0.970, 0.380, 0.867),
    "None": (0.990, 0.195, 0.968),
    "CFG": (1.000, 0.300, 0.956),
    "GPT-4o": (None, 0.705, None),
    "Nano Banana": (None, 0.498, None),
}
SCORES = ("positive", "negative", "quality")
Z = 1.96  # 95 %
DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Record:
    """One judged picture."""
    pair: int
    seed: int
    picture: str
    positive: bool
    negative: bool
    quality: float
    reasoning: str
    seconds: float | None
    usage: Usage


@dataclasses.dataclass(frozen=True)
class Share:
    """A mean and its 95 % interval."""
    mean: float
    low: float
    high: float


def by_pair(records: list[Record], score: str) -> list[list[float]]:
    """A score's values, those of one prompt pair together: seeds of one prompt are no independent pictures."""
    groups: dict[int, list[float]] = {}
    for record in records:
        groups.setdefault(record.pair, []).append(float(getattr(record, score)))
    return list(groups.values())


def independent(groups: list[list[float]]) -> float:
    """How many independent pictures are worth as much as these: between the pairs' number and the pictures'.

    The usual estimate for clusters: the variance that independent pictures would have, over that which the pairs' sums show.
    """
    n = sum(map(len, groups))
    mean = sum(map(sum, groups)) / n
    spread = sum((sum(group) - len(group) * mean) ** 2 for group in groups)
    if spread == 0:
        return len(groups)
    return min(max(mean * (1 - mean) * n * n / spread, len(groups)), n)


def wilson(groups: list[list[float]]) -> Share:
    """A share by Wilson's interval, which keeps a width at 0 and 1."""
    mean, n = sum(map(sum, groups)) / sum(map(len, groups)), independent(groups)
    middle, half = mean + Z * Z / (2 * n), Z * math.sqrt(mean * (1 - mean) / n + Z * Z / (4 * n * n))
    return Share(mean, max(0.0, (middle - half) / (1 + Z * Z / n)), min(1.0, (middle + half) / (1 + Z * Z / n)))


def bootstrap(groups: list[list[float]]) -> Share:
    """A mean by the bootstrap over prompt pairs."""
    rng, totals = random.Random(0), [(sum(group), len(group)) for group in groups]
    means = []
    for _ in range(DRAWS):
        drawn = rng.choices(totals, k=len(totals))
        means.append(sum(total for total, _ in drawn) / sum(count for _, count in drawn))
    means.sort()
    cut = round(0.025 * DRAWS)
    return Share(sum(total for total, _ in totals) / sum(count for _, count in totals), means[cut], means[-cut - 1])


def summary(row: Row, records: list[Record], prices: tuple[float, float]) -> dict[str, Any]:
    """One row's figures."""
    used = sum((record.usage for record in records), Usage())
    seconds = [record.seconds for record in records if record.seconds is not None]
    found = {score: wilson(by_pair(records, score)) for score in ("positive", "negative")}
    found["quality"] = bootstrap(by_pair(records, "quality"))
    return {
        "name": row.name,
        "paper": paper_row(row),
        "images": len(records),
        **{score: dataclasses.asdict(share) for score, share in found.items()},
        "both": sum(record.positive and record.negative for record in records) / len(records),
        "seconds": statistics.median(seconds) if seconds else None,
        "usage": dataclasses.asdict(used),
        "cost": used.cost(*prices),
    }


def paper_row(row: Row) -> str | None:
    """The paper's row beside ours: the one named with paper=, else one of the same name."""
    return next((name for name in PAPER if name.lower() == (row.paper or row.name).lower()), None)


def cell(value: float | None) -> str:
    """A figure of the paper."""
    return "" if value is None else f"{value:.3f}"


def table(rows: list[dict[str, Any]], *, judge: str, pairs: str, prices: tuple[float, float]) -> str:
    """The paper's table in Markdown: our rows with the paper's figures beside, then the paper's other rows."""
    head = ["method", "images", *(text for score in SCORES for text in (score, "paper")), "both", "s/image", "judge's cost"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row["name"], str(row["images"])]
        for score, value in zip(SCORES, PAPER.get(row["paper"], (None,) * 3), strict=True):
            share = row[score]
            cells += [f"{share['mean']:.3f} ({share['low']:.3f} to {share['high']:.3f})", cell(value)]
        cells += [f"{row['both']:.3f}", "" if row["seconds"] is None else f"{row['seconds']:.1f}",
                  f"{row['cost']:.4f}" if any(prices) else ""]
        lines.append(f"| {' | '.join(cells)} |")
    beside = {row["paper"] for row in rows}
    for name, values in PAPER.items():
        if name not in beside:
            cells = [f"{name} (paper)", "", *(text for value in values for text in ("", cell(value))), "", "", ""]
            lines.append(f"| {' | '.join(cells)} |")
    tokens = [sum(row["usage"][kind] for row in rows) for kind in ("prompt_tokens", "completion_tokens")]
    return "\n".join([
        *lines, "",
        f"Prompt pairs: {pairs}. Judge: {judge}. In brackets: 95 % intervals (shares: Wilson's, with the number of independent "
        "pictures estimated over the seeds of each prompt; quality: bootstrap over prompts). both: object there and element "
        "gone. s/image: median of the server's own time.",
        f"The judge's tokens for all answers in this table: {tokens[0]} in, {tokens[1]} out"
        + (f"; at {prices[0]:g} and {prices[1]:g} a million they cost {sum(row['cost'] for row in rows):.4f}." if any(prices)
           else " (no prices given: --price-in, --price-out)."),
        "The paper's figures come from another judge (Llama 4 Maverick) and the authors' own pairs and models. Figures of "
        "different judges, or of different pairs, are not comparable: compare the rows of one run with each other.", ""])
