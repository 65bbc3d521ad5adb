"""NegGenBench's runner: its parts, its behaviour when servers die and judges misbehave, and one run on the real ComfyUI.

Servers that die cannot be had on demand, so small servers on the loopback interface stand in for ComfyUI and for the judge in
the tests of failures. The last tests take the real ComfyUI, the testbed's model and the exact scorer as the judge.
"""
from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
import vsf
from aiohttp import web
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "tools"), str(ROOT / "testbed")]

import comfy_server  # noqa: E402
import scenes  # noqa: E402
import score  # noqa: E402
import testbed_workflows  # noqa: E402
from neggenbench import __main__ as command_line  # noqa: E402
from neggenbench import examples, report, store, testbed_judge, workflow  # noqa: E402
from neggenbench.errors import AnswerFailed, BenchError  # noqa: E402
from neggenbench.judge import RULES, Judge, Unusable, Usage, verdict  # noqa: E402
from neggenbench.pairs import FIELDS, OWN_PAIRS, Pair, read_pairs  # noqa: E402

PAIRS = [{"prompt": f"a red thing number {number} on a table", "missing_element": f"part {number}",
          "question_1": f"Is there thing {number}?", "question_2": f"Is part {number} missing or not visible?"}
         for number in range(3)]
PLAIN = {
    "1": {"class_type": "Draw", "inputs": {"text": "{prompt}", "seed": "{seed}"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}
EDITED = {
    **PLAIN,
    "3": {"class_type": "Edit", "inputs": {"images": ["1", 0], "text": "remove the {negative}, {{kept}}", "scale": "{scale}"}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}, "_meta": {"title": "Edited"}},
}


def main(arguments: list[str]) -> int:
    """The command."""
    return vsf.apart(command_line.main, arguments)


# --- stand-ins


@contextlib.contextmanager
def serve(app: web.Application) -> Iterator[str]:
    """A server on the loopback interface, in a thread of its own; its address."""
    loop, started, found = asyncio.new_event_loop(), threading.Event(), {}

    async def start() -> None:
        found["runner"] = web.AppRunner(app, shutdown_timeout=1)
        await found["runner"].setup()
        site = web.TCPSite(found["runner"], "127.0.0.1", 0)
        await site.start()
        found["port"] = site._server.sockets[0].getsockname()[1]
        started.set()

    thread = threading.Thread(target=lambda: (asyncio.set_event_loop(loop), loop.create_task(start()), loop.run_forever()))
    thread.start()
    assert started.wait(300)  # a busy machine
    try:
        yield f"http://127.0.0.1:{found['port']}"
    finally:
        asyncio.run_coroutine_threadsafe(found["runner"].cleanup(), loop).result(300)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(300)
        loop.close()


def picture_of(prompt: dict, output: str) -> bytes:
    """A PNG whose colour comes from a prompt's hash, with the prompt inside as ComfyUI writes it."""
    colour = tuple(hashlib.sha256(json.dumps([prompt, output], sort_keys=True).encode()).digest()[:3])
    file, info = io.BytesIO(), PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(prompt))
    Image.new("RGB", (8, 8), colour).save(file, "PNG", pnginfo=info)
    return file.getvalue()


class FakeComfy:
    """The four addresses of ComfyUI that the runner uses. `dead`: no connection gets an answer."""

    def __init__(self, **trouble: Any) -> None:
        self.dead, self.trouble = False, trouble
        self.prompts: list[dict] = []
        self.history: dict[str, dict] = {}
        self.files: dict[str, bytes] = {}

    @property
    def app(self) -> web.Application:
        """The server anew: what it knows stays."""
        found = web.Application(middlewares=[self.maybe_dead])
        found.add_routes([web.get("/system_stats", self.stats), web.post("/prompt", self.prompt),
                          web.get("/history/{id}", self.entry), web.get("/queue", self.queue),
                          web.post("/queue", self.stats), web.get("/view", self.view)])
        return found

    @web.middleware
    async def maybe_dead(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.dead:
            request.transport.abort()
        return await handler(request)

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response({"system": {}})

    async def prompt(self, request: web.Request) -> web.Response:
        prompt = (await request.json())["prompt"]
        if "refuses" in self.trouble:
            return web.json_response({"error": {"message": "Prompt has no outputs"}, "node_errors": self.trouble["refuses"]},
                                     status=400)
        self.prompts.append(prompt)
        number = f"{id(self)}-{len(self.prompts)}"
        if len(self.prompts) == self.trouble.get("dies_at"):
            self.dead = True
            if "revives_after" in self.trouble:
                threading.Timer(self.trouble["revives_after"], self.revive).start()
        elif len(self.prompts) != self.trouble.get("forgets"):
            self.history[number] = self.result(number, prompt)
        return web.json_response({"prompt_id": number, "number": 1, "node_errors": {}})

    def revive(self) -> None:
        self.dead = False

    def result(self, number: str, prompt: dict) -> dict:
        """What the history says of a prompt that has run."""
        if self.trouble.get("fails_on", "\0") in json.dumps(prompt):
            detail = {"node_type": "Draw", "node_id": "1", "exception_message": "out of memory"}
            return {"outputs": {}, "status": {"messages": [["execution_error", detail]]}}
        outputs = {}
        for node, entry in prompt.items():
            if entry["class_type"] == "SaveImage":
                name = f"{number}-{node}.png"
                self.files[name] = picture_of(prompt, node)
                outputs[node] = {"images": [{"filename": name, "subfolder": "", "type": "output"}]}
        times = [["execution_start", {"timestamp": 1000}], ["execution_success", {"timestamp": 3500}]]
        return {"outputs": outputs, "status": {"messages": times}}

    async def entry(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        return web.json_response({number: self.history[number]} if number in self.history else {})

    async def queue(self, request: web.Request) -> web.Response:
        return web.json_response({"queue_running": [], "queue_pending": []})

    async def view(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.query["filename"]])


class FakeJudge:
    """An endpoint that answers by the picture's colour, after the scripted troubles: a status, or a text for the answer."""

    def __init__(self, *script: int | str) -> None:
        self.script, self.bodies, self.keys = list(script), [], []

    @property
    def app(self) -> web.Application:
        """The server anew: what it has seen stays."""
        found = web.Application(client_max_size=2**26)
        found.router.add_post("/v1/chat/completions", self.answer)
        return found

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        trouble = self.script.pop(0) if self.script else None
        if isinstance(trouble, int):
            return web.json_response({"error": {"message": "trouble"}}, status=trouble, headers={"Retry-After": "0"})
        colour = sent_picture(body).getpixel((0, 0))
        text = trouble or json.dumps({"reasoning": "seen", "answer_1": colour[0] < 200, "answer_2": colour[1] < 100,
                                      "quality": colour[2] / 255})
        return web.json_response({"choices": [{"message": {"content": text}}],
                                  "usage": {"prompt_tokens": 1000, "completion_tokens": 50}})


def sent_picture(body: dict) -> Image.Image:
    """The picture inside a request."""
    address = body["messages"][1]["content"][1]["image_url"]["url"]
    assert address.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the small workflows and pairs."""
    for name, value in (("plain", PLAIN), ("edited", EDITED), ("pairs", PAIRS)):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    return tmp_path


def command(files: Path, servers: list[str], judge: str | None, *more: str) -> list[str]:
    """Two rows of three pairs and two seeds: twelve pictures."""
    rows = ["--row", f"None={files / 'plain.json'}", "--row", f"Edit={files / 'edited.json'}", "output=Edited", "scale=2.5",
            "paper=NAG"]
    ends = ["--server", *servers] if servers else []
    ends += ["--judge-url", f"{judge}/v1", "--judge-model", "fake"] if judge else ["--images-only"]
    return [*rows, "--pairs", str(files / "pairs.json"), "--out", str(files / "out"), *ends, *more]


def results(files: Path) -> dict:
    return json.loads((files / "out" / "results.json").read_text())


# --- workflows and their slots


def row(tmp_path: Path, workflow_: Any, own: dict | None = None, common: dict | None = None, seeds: int = 2) -> workflow.Row:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(workflow_))
    return workflow.make_row("row", path, own or {}, common or {}, seeds)


def test_slots_are_filled_with_typed_values(tmp_path):
    made = row(tmp_path, EDITED, {"scale": 2.5, "output": "4"})
    job = workflow.Job(made, Pair("a {seed} car", "wheels", "?", "?"), 7)
    assert job.prompt["1"]["inputs"] == {"text": "a {seed} car", "seed": 7}  # what a value holds is no slot
    assert job.prompt["3"]["inputs"] == {"images": ["1", 0], "text": "remove the wheels, {kept}", "scale": 2.5}
    assert made.workflow["1"]["inputs"]["seed"] == "{seed}"
    assert workflow.Job(made, job.pair, 8).key != job.key == workflow.Job(made, job.pair, 7).key


def test_only_what_the_output_needs_is_sent(tmp_path):
    assert set(row(tmp_path, EDITED, {"scale": 1, "output": "Edited"}).workflow) == {"1", "3", "4"}
    made = row(tmp_path, EDITED, {"output": "2"}, {"scale": 1})  # a common value that this row does not use
    assert set(made.workflow) == {"1", "2"} and made.values == {}


@pytest.mark.parametrize(("value", "own", "seeds", "message"), [
    ({"nodes": [], "links": []}, {}, 2, r"Export \(API\)"),
    ([], {}, 2, "not a workflow in API format"),
    ({"1": {"class_type": "Draw", "inputs": {"seed": "{seed}"}}}, {}, 2, r"no slot \{prompt\}"),
    ({"1": {"class_type": "Draw", "inputs": {"text": "{prompt}"}}}, {}, 2, r"no slot \{seed\}"),
    (EDITED, {}, 2, "slots that nothing fills: scale"),
    (PLAIN, {"scael": 2}, 2, "has no slot scael. It has: prompt, seed"),
    (PLAIN, {"seed": 2}, 2, "seed cannot be set"),
    (PLAIN, {"output": "Elsewhere"}, 2, r"2 \(SaveImage\)"),
])
def test_a_wrong_workflow_is_said(tmp_path, value, own, seeds, message):
    with pytest.raises(BenchError, match=message):
        row(tmp_path, value, own, seeds=seeds)


def test_one_seed_needs_no_slot(tmp_path):
    assert row(tmp_path, {"1": {"class_type": "Draw", "inputs": {"text": "{prompt}"}}}, seeds=1).values == {}


# --- prompt pairs


def test_own_pairs():
    found = read_pairs(OWN_PAIRS)
    assert len(found) == 200
    assert all(set(entry) == set(FIELDS) for entry in json.loads(OWN_PAIRS.read_text(encoding="utf-8")))
    assert len({pair.prompt for pair in found}) == len({pair.question_2 for pair in found}) == 200
    absence = re.compile(r"\b(without|no|not|missing|lacks?|lacking|lost|removed|broken|bare|headless|invisible)\b", re.I)
    for pair in found:
        words = re.findall(r"[a-z]+", pair.prompt.lower())
        assert 8 <= len(pair.prompt.split()) <= 20, pair
        assert 1 <= len(pair.missing_element.split()) <= 3, pair
        assert not absence.search(pair.prompt), pair
        assert not set(re.findall(r"[a-z]+", pair.missing_element.lower())) & set(words), f"the prompt asks for it: {pair}"
        thing = re.fullmatch(r"Is there (an?) (.+) in the picture, whether or not (?:its|his|her|their) (.+) can be seen\?",
                             pair.question_1)
        assert thing and thing[3] == pair.missing_element, pair
        assert (thing[1] == "an") == (thing[2][0].lower() in "aeiou"), pair
        be = re.fullmatch(r"(Is|Are) the (.+) of the (.+) missing or not visible\?", pair.question_2)
        assert be and (be[2], be[3]) == (pair.missing_element, thing[2]), pair
        assert thing[2].split()[-1].lower().rstrip("s") in {word.rstrip("s") for word in words}, f"another object: {pair}"


@pytest.mark.parametrize(("text", "message"), [
    ("[", "cannot be read"),
    ("{}", "JSON array"),
    ("[]", "JSON array"),
    ("[3]", "pair 1: expected an object"),
    (json.dumps([PAIRS[0], {**PAIRS[1], "question_2": " "}]), "pair 2: `question_2`"),
])
def test_wrong_pairs_are_said(tmp_path, text, message):
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(BenchError, match=message):
        read_pairs(tmp_path / "pairs.json")


def test_more_pairs_than_there_are(files):
    with pytest.raises(BenchError, match="has 3 pairs"):
        read_pairs(files / "pairs.json", 4)


# --- runs


def test_a_second_run_asks_for_nothing(files, capsys):
    comfy, judge = FakeComfy(), FakeJudge()
    with serve(comfy.app) as server, serve(judge.app) as endpoint:
        arguments = command(files, [server], endpoint, "--price-in", "2", "--price-out", "10")
        assert main(arguments) == 0
        assert len(comfy.prompts) == len(judge.bodies) == 12
        assert [node["class_type"] for node in comfy.prompts[-1].values()] == ["Draw", "Edit", "SaveImage"]
        first, table = results(files), (files / "out" / "table.md").read_text()
        assert main(arguments) == 0
        assert len(comfy.prompts) == len(judge.bodies) == 12
        second = results(files)
        assert second.pop("this_run") == {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0}
        assert first.pop("this_run")["cost"] == pytest.approx(12 * (1000 * 2 + 50 * 10) / 1e6)
        assert (first, table) == (second, (files / "out" / "table.md").read_text())
        assert table in capsys.readouterr().out
        assert main([*arguments, "--seeds", "3"]) == 0
        assert len(comfy.prompts) == len(judge.bodies) == 18
        assert main([*arguments, "--judge-model", "another"]) == 0
        assert (len(comfy.prompts), len(judge.bodies)) == (18, 30)
    assert {body["model"] for body in judge.bodies} == {"fake", "another"}
    for record in first["records"]["Edit"]:
        colour = Image.open(files / "out" / "images" / f"{record['picture']}.png").getpixel((0, 0))
        assert (record["positive"], record["negative"]) == (colour[0] < 200, colour[1] < 100)
        assert record["seconds"] == 2.5
    edit = first["rows"][1]
    assert edit["positive"]["mean"] == np.mean([record["positive"] for record in first["records"]["Edit"]])
    assert edit["cost"] == pytest.approx(6 * 0.0025)


def test_nothing_to_draw_needs_no_server(files):
    with serve(FakeComfy().app) as server:
        assert main(command(files, [server], None)) == 0
    judge = FakeJudge()
    with serve(judge.app) as endpoint:
        assert main(command(files, [], endpoint)) == 0
    assert len(judge.bodies) == 12


def test_drawing_without_a_server_is_said(files, capsys):
    assert main(command(files, [], None)) == 1
    assert "12 pictures are to be made and no server" in capsys.readouterr().err


def test_one_picture_for_rows_that_ask_for_the_same(files):
    comfy, judge = FakeComfy(), FakeJudge()
    with serve(comfy.app) as server, serve(judge.app) as endpoint:
        assert main([*command(files, [server], endpoint), "--row", f"Again={files / 'plain.json'}"]) == 0
    assert len(comfy.prompts) == len(judge.bodies) == 12
    found = results(files)["records"]
    assert found["Again"] == found["None"]


def test_a_dead_server_costs_its_current_picture(files):
    well, dying = FakeComfy(), FakeComfy(dies_at=2)
    with serve(well.app) as first, serve(dying.app) as second:
        assert main(command(files, [first, second], None)) == 0
    assert len(dying.prompts) == 2
    assert len(well.prompts) + len(dying.prompts) == 13  # one twice
    assert len(list((files / "out" / "images").glob("*.png"))) == 12


def test_a_server_that_comes_back_is_used_again(files, caplog):
    comfy = FakeComfy(dies_at=3, revives_after=1.5)
    with serve(comfy.app) as server:
        assert main(command(files, [server], None)) == 0
    assert len(comfy.prompts) == 13
    assert "next look in 1 s" in caplog.text


def test_a_restarted_server_has_forgotten_its_prompt(files, caplog):
    comfy = FakeComfy(forgets=4)
    with serve(comfy.app) as server:
        assert main(command(files, [server], None)) == 0
    assert len(comfy.prompts) == 13
    assert "no longer knows the prompt" in caplog.text


def test_all_servers_dead_ends_the_run_and_keeps_what_is_there(files, capsys):
    comfy = FakeComfy(dies_at=5)
    with serve(comfy.app) as server:
        nobody = f"http://127.0.0.1:{comfy_server.free_port()}"
        assert main(command(files, [server, nobody], None, "--patience", "1")) == 1
        assert "No ComfyUI server has worked for 1 s" in capsys.readouterr().err
        assert len(list((files / "out" / "images").glob("*.png"))) == 4
        comfy.revive()
        assert main(command(files, [server], None)) == 0
    assert len(comfy.prompts) == 13


def test_a_refused_workflow_ends_the_run(files, capsys):
    errors = {"1": {"class_type": "Draw", "errors": [{"message": "Value not in list", "details": "model: 'x'"}]}}
    comfy = FakeComfy(refuses=errors)
    with serve(comfy.app) as server:
        assert main(command(files, [server], None)) == 1
    assert "refused the workflow: Draw (1): Value not in list: model: 'x'" in capsys.readouterr().err


def test_a_picture_that_always_fails_is_left_out(files):
    comfy, judge = FakeComfy(fails_on="number 1"), FakeJudge()
    with serve(comfy.app) as server, serve(judge.app) as endpoint:
        assert main(command(files, [server], endpoint)) == 1
    assert len(comfy.prompts) == 8 + 4 * 3
    found = results(files)
    assert [row["images"] for row in found["rows"]] == [4, 4]
    assert len(found["missing"]) == 4 and "out of memory" in found["missing"][0]


def test_two_saving_nodes_need_a_choice(files, capsys):
    with serve(FakeComfy().app) as server:
        arguments = command(files, [server], None)
        arguments.remove("output=Edited")
        assert main(arguments) == 1
    assert "found 2 (SaveImage), 4 (SaveImage)" in capsys.readouterr().err


def test_what_is_no_picture_is_not_kept(files, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "picture_of", lambda prompt, output: b"no picture")
    comfy = FakeComfy()
    with serve(comfy.app) as server:
        assert main(command(files, [server], None, "--count", "1", "--seeds", "1")) == 1
    assert len(comfy.prompts) == 6 and not (files / "out" / "images").exists()


@pytest.mark.parametrize(("change", "message"), [
    (["--server", "127.0.0.1:8188"], "begins with http"),
    (["--set", "scale"], "expected NAME=VALUE"),
    (["--set", "shift=3"], "--set shift: no row's workflow"),
    (["--row", "nothing"], "expected NAME=WORKFLOW.json"),
    (["--row", "None={plain}"], "Two rows are called None"),
    (["--seeds", "0"], "--seeds 0: expected 1 or more"),
    (["--judge-url", "https://api.openai.com/v1"], "OPENAI_API_KEY should hold"),
    (["--key-env", "NOT_THERE"], "NOT_THERE should hold"),
])
def test_wrong_words_are_said(files, capsys, monkeypatch, change, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    change = [word.format(plain=files / "plain.json") for word in change]
    assert main([*command(files, [], "http://127.0.0.1:9"), *change]) == 1
    assert message in capsys.readouterr().err


def test_command_line():
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "benchmarks.neggenbench", "--help"], cwd=ROOT, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0 and "--judge-model" in done.stdout


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(*paths: object) -> None:
        raise OSError("disk full")

    store.write(tmp_path / "a" / "file", b"old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.write(tmp_path / "a" / "file", b"new")
    assert [path.read_bytes() for path in (tmp_path / "a").iterdir()] == [b"old"]


# --- the judge


PAIR = Pair(**PAIRS[0])
GOOD = {"reasoning": "A car.", "answer_1": True, "answer_2": False, "quality": 0.9}


def completion(content: object) -> dict:
    return {"choices": [{"message": {"content": content}}]}


def test_verdict():
    assert verdict(completion(json.dumps(GOOD))) == GOOD
    assert verdict(completion(json.dumps(GOOD | {"quality": 1, "more": 2}))) == GOOD | {"quality": 1}


@pytest.mark.parametrize("found", [
    {}, {"choices": []}, {"choices": [None]}, completion(None), completion("I see a car"), completion("[]"),
    *(completion(json.dumps(GOOD | wrong)) for wrong in (
        {"quality": 1.2}, {"quality": -0.1}, {"quality": True}, {"quality": "0.9"}, {"answer_1": 1}, {"answer_2": "true"},
        {"answer_2": None}, {"reasoning": None})),
])
def test_wrong_verdicts(found):
    with pytest.raises(Unusable, match="expected"):
        verdict(found)


def ask(judge: FakeJudge, **settings: Any) -> tuple[dict, Usage, Usage]:
    """One answer by the runner's own judge: it, what it cost, and what the whole run has cost."""
    async def run(address: str) -> tuple[dict, Usage, Usage]:
        async with aiohttp.ClientSession() as session:
            client = Judge(f"{address}/v1", "fake", session, first_pause=0.001, **settings)
            return *await client.ask(store.plain_png(picture_of(PLAIN, "2")), PAIR), client.spent

    with serve(judge.app) as address:
        return vsf.apart(asyncio.run, run(address))


def test_request():
    judge = FakeJudge()
    ask(judge, key="secret", options={"temperature": None, "max_completion_tokens": 500})
    ask(judge)
    with_options, plain = judge.bodies
    assert judge.keys == ["Bearer secret", None]
    assert plain["temperature"] == 0 and "temperature" not in with_options and with_options["max_completion_tokens"] == 500
    schema = plain["response_format"]["json_schema"]
    assert schema["strict"] and not schema["schema"]["additionalProperties"]
    assert list(schema["schema"]["properties"]) == schema["schema"]["required"] == list(GOOD)
    assert plain["messages"][0] == {"role": "system", "content": RULES}
    question = plain["messages"][1]["content"][0]["text"]
    assert question == f"Question 1: {PAIR.question_1}\nQuestion 2: {PAIR.question_2}"
    assert sent_picture(plain).info == {}, "the workflow tells the judge what to look for"
    assert "{" not in question


def test_the_judge_is_asked_again():
    judge = FakeJudge(429, 500, "no JSON", json.dumps(GOOD | {"quality": 7}))
    answer, used, spent = ask(judge)
    assert set(answer) == set(GOOD)
    assert len(judge.bodies) == 5
    assert used == spent == Usage(3, 3000, 150)  # wrong answers cost too


def test_the_judge_is_not_asked_for_ever():
    judge = FakeJudge(*["no JSON"] * 9)
    with pytest.raises(AnswerFailed, match=r"asked 4 times"):
        ask(judge, retries=3)
    assert len(judge.bodies) == 4


@pytest.mark.parametrize(("status", "message"), [(400, "answered 400"), (401, "Is the key right"), (404, "answered 404")])
def test_what_no_repetition_helps_ends_the_run(files, capsys, status, message):
    judge = FakeJudge(*[status] * 20)
    with serve(FakeComfy().app) as server, serve(judge.app) as endpoint:
        assert main(command(files, [server], endpoint)) == 1
    assert message in capsys.readouterr().err
    assert len(judge.bodies) <= 4  # one a worker


def test_an_answer_that_is_not_to_be_had_is_missing(files):
    judge = FakeJudge(*[500] * 2)
    with serve(FakeComfy().app) as server, serve(judge.app) as endpoint:
        assert main(command(files, [server], endpoint, "--judge-retries", "1", "--judge-workers", "1")) == 1
        assert [row["images"] for row in results(files)["rows"]] == [5, 6]
        assert main(command(files, [server], endpoint)) == 0
    assert [row["images"] for row in results(files)["rows"]] == [6, 6] and len(judge.bodies) == 14


# --- the table


def records(values: list[list[bool]]) -> list[report.Record]:
    """Records of pairs with their seeds' answers."""
    return [report.Record(pair, seed, "", True, value, 0.5 + 0.25 * value, "", 2.0, Usage(1, 1000, 100))
            for pair, seeds in enumerate(values) for seed, value in enumerate(seeds)]


def test_wilson_interval():
    share = report.wilson([[1.0]] * 10 + [[0.0]] * 10)
    assert (share.mean, share.low, share.high) == pytest.approx((0.5, 0.2993, 0.7007), abs=1e-4)  # Wilson's for 10 of 20
    assert report.wilson([[1.0, 1.0]] * 20).low == pytest.approx(20 / (20 + 1.96**2))


def test_seeds_of_one_prompt_are_not_independent():
    alike, unlike = [[1.0, 1.0]] * 50 + [[0.0, 0.0]] * 50, [[1.0, 0.0]] * 100
    assert report.independent(alike) == 100
    mixed = [[1.0, 1.0]] * 25 + [[1.0, 0.0]] * 50 + [[0.0, 0.0]] * 25  # two fair coins
    assert report.independent(mixed) == pytest.approx(200)
    assert report.wilson(alike).low < report.wilson(mixed).low
    assert report.independent(unlike) >= 100


def test_bootstrap_is_over_prompts():
    groups = [[0.4, 0.6]] * 30 + [[0.9, 0.9]] * 10
    share = report.bootstrap(groups)
    assert share.mean == pytest.approx(0.6)
    deviation = np.std([np.mean(group) for group in groups]) / np.sqrt(len(groups))
    assert share.high - share.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_table_has_the_papers_figures_beside():
    ours = report.summary(workflow.Row("vsf strong", {}, {}), records([[True, True], [True, False]]), (1.0, 10.0))
    other = report.summary(workflow.Row("mine", {}, {}, paper="NAG"), records([[False, False]]), (1.0, 10.0))
    assert (ours["negative"]["mean"], ours["quality"]["mean"], ours["both"], ours["seconds"]) == (0.75, 0.6875, 0.75, 2.0)
    assert ours["cost"] == pytest.approx(4 * 0.002)
    text = report.table([ours, other], judge="fake", pairs="p", prices=(1.0, 10.0))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    assert {len(line) for line in lines} == {11}
    by_name = {line[0]: line for line in lines}
    assert by_name["vsf strong"][2].startswith("1.000 (") and by_name["vsf strong"][4].startswith("0.750 (")
    assert [by_name["vsf strong"][place] for place in (3, 5, 7)] == ["0.870", "0.545", "0.952"]
    assert [by_name["mine"][place] for place in (3, 5, 7)] == ["0.993", "0.220", "0.968"]
    assert by_name["GPT-4o (paper)"][2:8] == ["", "", "", "0.705", "", ""]
    assert len(lines) == 1 + 2 + 9 - 2
    assert "not comparable" in text


# --- the real ComfyUI


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory) -> Iterator[comfy_server.ComfyServer]:
    """The real server with the pack and the testbed."""
    with comfy_server.ComfyServer(tmp_path_factory.mktemp("comfyui"), {comfy_server.PACK: comfy_server.PACK_SOURCE}) as server:
        yield server


def test_examples_are_what_the_recipes_say(comfyui):
    info = comfyui.get_json("/object_info")
    for name, make in examples.EXAMPLES.items():
        found = json.loads((examples.FOLDER / name).read_text(encoding="utf-8"))
        assert found == make(info), f"{name} is old: python -m benchmarks.neggenbench.examples"


@pytest.mark.parametrize(("name", "own"), [
    ("sd35_large_turbo.json", {"output": "With VSF", "scale": 2.0, "bias": 0.2}),
    ("sd35_large_turbo.json", {"output": "Without a negative"}),
    ("sd35_large_turbo_context.json", {"output": "With VSF", "strength": 1.0}),
    ("sd35_then_kontext.json", {}),
])
def test_examples_lack_nothing_but_the_models(comfyui, name, own):
    made = workflow.make_row(name, examples.FOLDER / name, own, {}, 2)
    with pytest.raises(comfy_server.PromptRefused) as refused:
        comfyui.queue(workflow.Job(made, read_pairs(OWN_PAIRS)[0], 1).prompt)
    assert refused.value.node_errors
    for entry in refused.value.node_errors.values():
        assert "Loader" in entry["class_type"]
        assert {error["type"] for error in entry["errors"]} == {"value_not_in_list"}


def test_testbed_from_prompts_to_table(comfyui, tmp_path):
    """A row for each rule on the real server, judged by the exact scorer over HTTP; the table says what scoring the files
    says."""
    wanted = scenes.prompt_pairs(4)
    (tmp_path / "pairs.json").write_text(json.dumps([testbed_judge.pair(pair) for pair in wanted]))
    testbed = examples.FOLDER / "testbed.json"
    with serve(testbed_judge.app()) as endpoint:
        arguments = [
            "--row", f"None={testbed}", "output=Without a negative",
            "--row", f"VSF={testbed}", "output=With VSF", "paper=VSF Quality",
            "--row", f"VSF Prompt={examples.FOLDER / 'testbed_context.json'}", "output=With VSF", "strength=1",
            "--set", f"scale={testbed_workflows.SCALE}", f"bias={testbed_workflows.BIAS}",
            "--server", comfyui.address, "--pairs", str(tmp_path / "pairs.json"), "--first-seed", "7",
            "--judge-url", f"{endpoint}/v1", "--judge-model", "testbed scorer", "--out", str(tmp_path / "out"),
        ]
        assert main(arguments) == 0
    found = results(tmp_path)
    scorer = score.load()
    for row_ in found["rows"]:
        records_ = found["records"][row_["name"]]
        assert len(records_) == 8
        pictures = [np.asarray(Image.open(tmp_path / "out" / "images" / f"{r['picture']}.png")) for r in records_]
        seen = score.score(scorer, np.stack(pictures), [wanted[r["pair"]].scene for r in records_])
        assert row_["positive"]["mean"] == seen.subject_kept.mean()
        assert row_["negative"]["mean"] == seen.part_absent.mean()
        assert row_["quality"]["mean"] == pytest.approx(seen.quality.mean(), abs=1e-3)
        assert row_["seconds"] > 0
        assert f"| {row_['name']} | 8 | {row_['positive']['mean']:.3f} (" in (tmp_path / "out" / "table.md").read_text()
    none, *rules = found["rows"]
    assert len(rules) == 2
    assert all(rule["negative"]["mean"] > none["negative"]["mean"] for rule in rules), "the negative removed nothing"

    # the very picture that the demo workflow gives without this runner
    pair, info = wanted[0], comfyui.get_json("/object_info")
    prompt = testbed_workflows.paper_form(
        testbed_workflows.to_api(testbed_workflows.demo((pair.positive, pair.negative), 7), info))
    files_ = {prompt[node]["_meta"]["title"]: made[0] for node, made in comfyui.run(prompt).items()}
    for name, title in (("None", "Without a negative"), ("VSF", "With VSF")):
        record = next(r for r in found["records"][name] if (r["pair"], r["seed"]) == (0, 7))
        ours = np.asarray(Image.open(tmp_path / "out" / "images" / f"{record['picture']}.png"))
        assert np.array_equal(ours, np.asarray(Image.open(io.BytesIO(files_[title])).convert("RGB")))


def test_a_real_server_is_killed(comfyui, tmp_path):
    """Two real servers share the pictures; one is killed at its second, and the other makes what it leaves."""
    (tmp_path / "pairs.json").write_text(json.dumps([testbed_judge.pair(pair) for pair in scenes.prompt_pairs(6)]))
    told = tmp_path / "out" / "images"
    with comfy_server.ComfyServer(tmp_path / "doomed", {}) as doomed:
        over = threading.Event()

        def kill() -> None:
            while not over.wait(0.05):
                if any(json.loads(file.read_text())["server"] == doomed.address for file in told.glob("*.json")):
                    doomed.process.kill()
                    return

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            assert main(["--row", f"None={examples.FOLDER / 'testbed.json'}", "output=Without a negative", "--images-only",
                         "--server", doomed.address, comfyui.address, "--pairs", str(tmp_path / "pairs.json"),
                         "--out", str(tmp_path / "out")]) == 0
        finally:
            over.set()
            killer.join()
        assert doomed.process.poll() is not None, "it was not killed"
    assert len(list(told.glob("*.png"))) == 12
    assert {json.loads(file.read_text())["server"] for file in told.glob("*.json")} == {doomed.address, comfyui.address}
