"""A run: what is missing is drawn by the servers and judged as it comes, what is there is taken from the folder."""
from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import Any

from tqdm import tqdm

from .comfy import FAILURES, Server, Studio, until
from .errors import AnswerFailed, BenchError, PictureFailed
from .judge import Judge, Usage
from .pairs import Pair
from .report import Record
from .store import Store, plain_png
from .workflow import Job, Row

log = logging.getLogger("neggenbench")


class Bench:
    """Rows, pairs and seeds over one folder."""

    def __init__(self, rows: list[Row], pairs: list[Pair], seeds: range, store: Store) -> None:
        self.rows, self.pairs, self.seeds, self.store = rows, pairs, seeds, store
        self.failed: list[str] = []
        # by row first: a server then loads each row's model once
        self.jobs = [Job(row, pair, seed) for row in rows for pair in pairs for seed in seeds]

    def to_draw(self) -> list[Job]:
        """The pictures that are not there, each once."""
        return [job for key, job in {job.key: job for job in self.jobs}.items() if not self.store.has_picture(key)]

    def to_judge(self, judge: Judge) -> list[Job]:
        """The pictures that are there and have no answer, each once for every pair of questions."""
        found = {}
        for job in self.jobs:
            if self.store.has_picture(job.key) and self.store.answer(self.answer_key(job, judge)) is None:
                found[self.answer_key(job, judge)] = job
        return list(found.values())

    def answer_key(self, job: Job, judge: Judge) -> str:
        """The name of the answer to a picture that is there."""
        return judge.answer_key(self.store.picture_hash(job.key), job.pair)

    async def run(self, servers: list[Server], judge: Judge | None, *, judge_workers: int = 4, **settings: float) -> None:
        """Draw and judge what is missing; without a judge only draw."""
        pictures, answers = self.to_draw(), self.to_judge(judge) if judge else []
        if pictures and not servers:
            raise BenchError(f"{len(pictures)} pictures are to be made and no server is named: give --server URL.")
        sharing: dict[str, list[Job]] = {}  # the jobs that wait for a picture
        for job in self.jobs:
            sharing.setdefault(job.key, []).append(job)
        total = len(answers) + sum(len({(j.pair.question_1, j.pair.question_2) for j in sharing[job.key]}) for job in pictures)
        log.info("%d pictures to make, %d to judge; %d pictures are there.", len(pictures), total if judge else 0,
                 len(sharing) - len(pictures))
        queue: asyncio.Queue[Job] = asyncio.Queue()
        with (tqdm(total=len(pictures), desc="pictures", disable=not pictures) as drawn,
              tqdm(total=total, desc="answers", disable=not judge or not total) as judged):

            async def keep(job: Job, data: bytes, told: dict[str, Any]) -> None:
                try:
                    png = await asyncio.to_thread(plain_png, data)
                except (OSError, SyntaxError) as error:  # Pillow's for a broken file
                    raise PictureFailed(f"{told['server']} gave no picture: {error}") from None
                self.store.keep_picture(job.key, png, told)
                drawn.update()
                if judge:
                    for other in {(j.pair.question_1, j.pair.question_2): j for j in sharing[job.key]}.values():
                        queue.put_nowait(other)

            async def answer(judge: Judge) -> None:
                while True:
                    job = await queue.get()
                    await self.judge(job, judge)
                    judged.update()
                    queue.task_done()

            studio = Studio(servers, keep, **settings)
            for job in answers:
                queue.put_nowait(job)

            async def draw_and_wait() -> None:
                await studio.draw(pictures)
                await queue.join()

            try:
                await until(draw_and_wait(), [answer(judge) for _ in range(judge_workers)] if judge else [])
            finally:
                self.failed += studio.failed.values()

    async def judge(self, job: Job, judge: Judge) -> None:
        """One picture's answer, asked and kept."""
        key = self.answer_key(job, judge)
        try:
            answer, used = await judge.ask(self.store.picture(job.key).read_bytes(), job.pair)
        except AnswerFailed as error:
            self.failed.append(f"{job.row.name}, seed {job.seed}, {job.pair.prompt!r}: {error}")
            log.error("No answer: %s", self.failed[-1])
            if len(self.failed) >= FAILURES:
                raise BenchError(f"{len(self.failed)} answers have failed, the last: {self.failed[-1]}. Everything done so far "
                                 "is kept; the same command goes on from there.") from None
            return
        self.store.keep_answer(key, {"picture": job.key, "model": judge.model, "question_1": job.pair.question_1,
                                     "question_2": job.pair.question_2, "answer": answer, "usage": dataclasses.asdict(used)})

    def records(self, row: Row, judge: Judge) -> list[Record]:
        """A row's judged pictures."""
        numbers, found = {pair: number for number, pair in enumerate(self.pairs)}, []
        for job in (job for job in self.jobs if job.row is row):
            if not self.store.has_picture(job.key) or (kept := self.store.answer(self.answer_key(job, judge))) is None:
                continue
            answer = kept["answer"]
            found.append(Record(numbers[job.pair], job.seed, job.key, answer["answer_1"], answer["answer_2"],
                                answer["quality"], answer["reasoning"], self.store.told(job.key)["seconds"],
                                Usage(**kept["usage"])))
        return found
