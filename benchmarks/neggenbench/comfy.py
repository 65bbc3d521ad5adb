"""ComfyUI servers sharing the pictures: whoever is free takes the next, and what a dead one held goes back."""
from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from .errors import BenchError, PictureFailed, ServerLost
from .workflow import Job

log = logging.getLogger("neggenbench")

LONGEST_PAUSE = 60.0  # seconds between two looks at a server that is down
ATTEMPTS = 3  # for one picture that servers accept and do not finish
FAILURES = 10  # pictures; more of them mean that something else is wrong


class Server:
    """One ComfyUI, by its HTTP interface."""

    def __init__(self, url: str, session: aiohttp.ClientSession, poll: float = 0.5) -> None:
        self.url, self.session, self.poll = url.rstrip("/"), session, poll

    async def call(self, method: str, path: str, **body: Any) -> tuple[int, bytes]:
        """A request's status and body; ServerLost where there is no answer or one of a broken server."""
        try:
            timeout = aiohttp.ClientTimeout(total=60)
            async with self.session.request(method, self.url + path, timeout=timeout, **body) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            raise ServerLost(f"{self.url}{path}: {error or type(error).__name__}") from None
        if answer.status >= 500:
            raise ServerLost(f"{self.url}{path} answered {answer.status}: {text(data)}")
        return answer.status, data

    async def get(self, path: str) -> Any:
        """A GET's JSON."""
        status, data = await self.call("GET", path)
        if status != 200:
            raise ServerLost(f"{self.url}{path} answered {status}: {text(data)}")
        return parse(data, self.url + path)

    async def alive(self) -> bool:
        """Whether it answers as ComfyUI does."""
        try:
            return "system" in await self.get("/system_stats")
        except ServerLost:
            return False

    async def queue(self, job: Job) -> str:
        """Queue a picture; the prompt's id. What ComfyUI refuses no other server would take: that ends the run."""
        status, data = await self.call("POST", "/prompt", json={"prompt": job.prompt, "client_id": "neggenbench"})
        if status in (401, 403, 404, 405):
            raise ServerLost(f"{self.url}/prompt answered {status}: is this address a ComfyUI server's?")
        found = parse(data, f"{self.url}/prompt")
        if status != 200 or found.get("node_errors"):
            if "prompt_id" in found:
                with contextlib.suppress(ServerLost):
                    await self.forget(found["prompt_id"])
            raise BenchError(f"Row {job.row.name}: {self.url} refused the workflow: {refusal(found, job)}")
        return found["prompt_id"]

    async def forget(self, prompt_id: str) -> None:
        """Take a prompt that nobody waits for out of the server's queue."""
        await self.call("POST", "/queue", json={"delete": [prompt_id]})

    async def knows(self, prompt_id: str) -> bool:
        """Whether a prompt waits or runs there."""
        found = await self.get("/queue")
        return any(entry[1] == prompt_id for kind in ("queue_running", "queue_pending") for entry in found[kind])

    async def end(self, prompt_id: str, seconds: float) -> dict[str, Any]:
        """A prompt's entry in the history, once it has ended."""
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            # in this order: what ends between the two questions is in the history at the second look
            waits = await self.knows(prompt_id)
            if entry := (await self.get(f"/history/{prompt_id}")).get(prompt_id):
                return entry
            if not waits:
                raise ServerLost(f"{self.url} no longer knows the prompt: it was restarted, or its queue was cleared")
            await asyncio.sleep(self.poll)
        await self.forget(prompt_id)
        raise ServerLost(f"{self.url} has not made a picture in {seconds:.0f} s (--picture-timeout)")

    async def picture(self, prompt_id: str, job: Job, seconds: float) -> tuple[bytes, float | None]:
        """A queued picture's file, and how many seconds the server worked on it."""
        entry = await self.end(prompt_id, seconds)
        messages = dict((entry.get("status") or {}).get("messages", []))
        for kind in ("execution_error", "execution_interrupted"):
            if kind in messages:
                detail = messages[kind]
                raise PictureFailed(f"{self.url}, {detail.get('node_type')} ({detail.get('node_id')}): "
                                    f"{str(detail.get('exception_message', kind)).strip()}")
        image = saved_image(entry["outputs"], job)
        params = {key: image[key] for key in ("filename", "subfolder", "type")}
        status, data = await self.call("GET", "/view", params=params)
        if status != 200:
            raise PictureFailed(f"{self.url} has no file {image['filename']} (status {status})")
        times = [messages.get(kind, {}).get("timestamp") for kind in ("execution_start", "execution_success")]
        return data, None if None in times else (times[1] - times[0]) / 1000


def text(data: bytes) -> str:
    """The beginning of an answer, for a message."""
    return data.decode(errors="replace").strip()[:300]


def parse(data: bytes, where: str) -> Any:
    """An answer's JSON; no server that we can use gives anything else."""
    try:
        return json.loads(data)
    except ValueError:
        raise ServerLost(f"{where} gave no JSON: {text(data)}") from None


def refusal(found: dict[str, Any], job: Job) -> str:
    """What ComfyUI found wrong with a workflow, a clause for each error."""
    clauses = [f"{entry['class_type']} ({node}): {error['message']}: {error.get('details', '')}"
               for node, entry in found.get("node_errors", {}).items() for error in entry["errors"]]
    whole = found.get("error")
    return "; ".join(clauses) or (f"{whole['message']} {whole.get('details', '')}" if isinstance(whole, dict) else str(whole))


def saved_image(outputs: dict[str, Any], job: Job) -> dict[str, str]:
    """The one picture that a prompt saved, or that its output node shows."""
    images = {node: found["images"] for node, found in outputs.items() if found.get("images")}
    if job.row.output is not None:
        images = {node: found for node, found in images.items() if node == job.row.output}
    else:
        kept = {node: found for node, found in images.items() if found[0].get("type") == "output"}
        images = kept or images  # a workflow with previews alone
    if len(images) != 1:
        titles = [f"{node} ({job.row.workflow[node]['class_type']})" for node in images]
        raise BenchError(f"Row {job.row.name}: expected one node that saves a picture, found {', '.join(titles) or 'none'}. "
                         "Name it after the row: output=NODE_ID, or for all rows: --output NODE_ID.")
    (node, found), = images.items()
    if len(found) != 1:
        raise BenchError(f"Row {job.row.name}: node {node} saved {len(found)} pictures; expected one. Set the batch to 1.")
    return found[0]


Keep = Callable[[Job, bytes, dict[str, Any]], Awaitable[None]]


class Studio:
    """Several servers at work on one queue of pictures."""

    def __init__(self, servers: list[Server], keep: Keep, *, picture_seconds: float = 600, patience: float = 600,
                 first_pause: float = 1.0) -> None:
        self.servers, self.keep = servers, keep
        self.picture_seconds, self.patience, self.first_pause = picture_seconds, patience, first_pause
        self.jobs: asyncio.Queue[Job] = asyncio.Queue()
        self.down: dict[str, float] = {}  # since when
        self.attempts: collections.Counter[str] = collections.Counter()
        self.failed: dict[str, str] = {}

    async def draw(self, jobs: list[Job]) -> None:
        """Make all pictures. BenchError where that cannot be; what is made by then has been kept."""
        for job in jobs:
            self.jobs.put_nowait(job)
        await until(self.jobs.join(), [self.work(server) for server in self.servers])

    async def work(self, server: Server) -> None:
        """One server's work, for ever."""
        pause = self.first_pause
        while True:
            job, accepted = await self.jobs.get(), False
            try:
                prompt_id = await server.queue(job)
                accepted = True
                self.down.pop(server.url, None)
                data, seconds = await server.picture(prompt_id, job, self.picture_seconds)
                await self.keep(job, data, {"row": job.row.name, "server": server.url, "seconds": seconds,
                                            "workflow": job.prompt})
                pause = self.first_pause
            except PictureFailed as error:
                self.again(job, str(error), True)
            except ServerLost as error:
                log.warning("%s. Its picture goes back to the queue; next look in %.0f s.", error, pause)
                self.again(job, str(error), accepted)  # before the pause: another server may take it
                self.jobs.task_done()
                pause = await self.recovery(server, pause)
                continue
            self.jobs.task_done()

    def again(self, job: Job, why: str, counts: bool) -> None:
        """Queue a picture once more, unless it has failed too often: one that breaks servers must not go round for ever."""
        self.attempts[job.key] += counts
        if self.attempts[job.key] < ATTEMPTS:
            self.jobs.put_nowait(job)
            return
        self.failed[job.key] = f"{job.row.name}, seed {job.seed}, {job.pair.prompt!r}: {why}"
        log.error("Given up after %d attempts: %s", ATTEMPTS, self.failed[job.key])
        if len(self.failed) >= FAILURES:
            raise BenchError(f"{len(self.failed)} pictures have failed, the last: {self.failed[job.key]}. Everything made so "
                             "far is kept; the same command goes on from there.")

    async def recovery(self, server: Server, pause: float) -> float:
        """Wait until a server answers again, with growing pauses; the next pause, should it fail anew."""
        self.down.setdefault(server.url, time.monotonic())
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if len(self.down) == len(self.servers) and time.monotonic() - max(self.down.values()) > self.patience:
                raise BenchError(f"No ComfyUI server has worked for {self.patience:.0f} s: {', '.join(self.down)}. Everything "
                                 "made so far is kept; start a server and give the same command again.")
            if await server.alive():
                return pause


async def until(done: Awaitable[Any], workers: list[Awaitable[None]]) -> None:
    """Let endless workers run until `done`. The first exception of any ends them all, and is raised here."""
    tasks = [asyncio.ensure_future(task) for task in (done, *workers)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
