"""A vision model behind an OpenAI-compatible endpoint as the judge of one picture: two answers and a quality."""
from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import logging
import random
from typing import Any

import aiohttp

from .errors import AnswerFailed, BenchError
from .pairs import Pair
from .workflow import digest

log = logging.getLogger("neggenbench")

PROMPT_VERSION = 1  # change it with RULES: answers to other rules are no answers to these
RULES = """You judge one picture that a text-to-image model has made. Two questions come with it. Report only what can be seen.

Question 1 asks for the main object. Answer true if that object is in the picture and can be recognised, whatever has become \
of the part that question 2 asks for: an object without that part, or with it, counts alike.

Question 2 asks whether a part is missing or not visible. Answer true if you cannot see that part, for whatever reason: \
removed, hidden, outside the picture, or the object itself is not there. Answer false only if you do see the part. Do not \
presume that it is there because such objects usually have it.

Quality is a number from 0 (unusable) to 1 (flawless). Lower it for artefacts, blur, unnatural colours, noise, deformed shapes \
and double contours. Never lower it because the part of question 2 is missing, or because an object without it is unusual.

Look first: in `reasoning`, say in a few sentences what you see of the object, of the part and of such faults. Then give \
`answer_1`, `answer_2` and `quality`."""
SCHEMA = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "answer_1": {"type": "boolean"},
        "answer_2": {"type": "boolean"},
        "quality": {"type": "number", "description": "from 0 to 1"},
    },
    "required": ["reasoning", "answer_1", "answer_2", "quality"],
    "additionalProperties": False,
}
TEMPORARY = (408, 409, 425, 429)  # and all from 500 on
LONGEST_PAUSE = 60.0


@dataclasses.dataclass(frozen=True)
class Usage:
    """What an endpoint counted."""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))

    def cost(self, price_in: float, price_out: float) -> float:
        """Its price, from prices for a million tokens."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6


class Unusable(Exception):
    """An answer that is worth asking for again; `pause` is how long the endpoint wants to be left alone."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class Judge:
    """The endpoint, the model, and what they have cost in this run."""

    def __init__(self, url: str, model: str, session: aiohttp.ClientSession, *, key: str | None = None,
                 options: dict[str, Any] | None = None, retries: int = 6, first_pause: float = 1.0,
                 seconds: float = 180) -> None:
        self.url, self.model, self.session, self.key = url.rstrip("/") + "/chat/completions", model, session, key
        self.options, self.retries, self.first_pause, self.seconds = options or {}, retries, first_pause, seconds
        self.spent = Usage()

    def answer_key(self, picture_hash: str, pair: Pair) -> str:
        """A name for the answer: the hash of all that it depends on."""
        return digest([picture_hash, self.model, pair.question_1, pair.question_2, PROMPT_VERSION, self.options])

    def body(self, png: bytes, pair: Pair) -> dict[str, Any]:
        """The request. An option of null takes a field away."""
        image = "data:image/png;base64," + base64.b64encode(png).decode()
        questions = f"Question 1: {pair.question_1}\nQuestion 2: {pair.question_2}"
        found = {
            "model": self.model,
            "temperature": 0,
            "messages": [
                {"role": "system", "content": RULES},
                {"role": "user", "content": [{"type": "text", "text": questions},
                                             {"type": "image_url", "image_url": {"url": image}}]},
            ],
            "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": SCHEMA}},
        }
        return {name: value for name, value in (found | self.options).items() if value is not None}

    async def ask(self, png: bytes, pair: Pair) -> tuple[dict[str, Any], Usage]:
        """The answer, and what it cost with all attempts. AnswerFailed where no attempt gave one."""
        body, used = self.body(png, pair), Usage()
        for attempt in range(self.retries + 1):
            try:
                found = await self.post(body)
                cost = usage(found)
                used, self.spent = used + cost, self.spent + cost
                return verdict(found), used
            except Unusable as error:
                if attempt == self.retries:
                    raise AnswerFailed(f"{error} (asked {attempt + 1} times)") from None
                pause = min(self.first_pause * 2**attempt, LONGEST_PAUSE)
                pause = pause * random.uniform(0.75, 1.25) if error.pause is None else error.pause
                log.info("The judge: %s; asked again in %.1f s.", error, pause)
                await asyncio.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    async def post(self, body: dict[str, Any]) -> dict[str, Any]:
        """One request's JSON."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = aiohttp.ClientTimeout(total=self.seconds)
        try:
            async with self.session.post(self.url, json=body, headers=headers, timeout=timeout) as answer:
                text = await answer.text(errors="replace")
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise Unusable(f"{self.url}: {error or type(error).__name__}") from None
        if answer.status in TEMPORARY or answer.status >= 500:
            raise Unusable(f"{self.url} answered {answer.status}: {text[:300]}", retry_after(answer.headers))
        if answer.status != 200:
            hint = " Is the key right (--key-env)?" if answer.status in (401, 403) else ""
            raise BenchError(f"The judge {self.url} answered {answer.status} and will not answer otherwise next time: "
                             f"{text[:500]}.{hint}")
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unusable(f"{self.url} gave no JSON object: {text[:300]}")
        return found


def retry_after(headers: Any) -> float | None:
    """The pause in seconds that an endpoint asks for, at most a minute."""
    value = headers.get("Retry-After", "")
    return min(float(value), LONGEST_PAUSE) if value.replace(".", "", 1).isdigit() else None


def usage(found: dict[str, Any]) -> Usage:
    """What one answer cost; endpoints that do not count give nothing."""
    counted = found.get("usage") or {}
    return Usage(1, int(counted.get("prompt_tokens") or 0), int(counted.get("completion_tokens") or 0))


def verdict(found: dict[str, Any]) -> dict[str, Any]:
    """The answer inside a completion, checked: an endpoint may take a schema and not keep to it."""
    try:
        message = found["choices"][0]["message"]
        content = message["content"]
    except (KeyError, IndexError, TypeError):
        raise Unusable(f"expected choices with a message, found {json.dumps(found)[:300]}") from None
    if not isinstance(content, str):
        raise Unusable(f"expected a text, found {json.dumps(message)[:300]}")  # a refusal
    try:
        answer = json.loads(content)
    except ValueError:
        raise Unusable(f"expected JSON, found {content[:300]!r}") from None
    if not isinstance(answer, dict):
        raise Unusable(f"expected a JSON object, found {content[:300]!r}")
    quality = answer.get("quality")
    right = (
        isinstance(answer.get("reasoning"), str)
        and isinstance(answer.get("answer_1"), bool) and isinstance(answer.get("answer_2"), bool)
        and isinstance(quality, int | float) and not isinstance(quality, bool) and 0 <= quality <= 1
    )
    if not right:
        raise Unusable(f"expected reasoning (text), answer_1 and answer_2 (true or false) and quality (0 to 1), found "
                       f"{content[:300]!r}")
    return {name: answer[name] for name in SCHEMA["required"]}
