"""Mutation testing of vsf_core by tests/core: mutmut's mutants, each in a fork of one pytest that has everything loaded.

    python tools/mutants.py FOLDER EQUIVALENT [NUMBER] [PATTERN ...]     run by tools/check.py, in a folder that it fills

mutmut itself starts Python, PyTorch and ComfyUI for every mutant and runs its tests in no order, which is ten seconds and more.
Here the tests are collected once and run once, which tells what each one takes and which functions it reaches. A mutant is then
a fork that runs the tests of its function until one fails: first those that killed others of that function, then of each test
the cheapest case, then the next ones, until they have taken LIMIT seconds. One that is alive by then survived.

The mutants are run in an order by chance, always the same: NUMBER, the first so many of it, and whatever has been run when it
is stopped (Ctrl+C), are random samples of all. What was found of a function that has not changed is kept, but for survivors,
which newer tests may kill: they come first. Those that are known to be equivalent (EQUIVALENT, a file) are not run again.
"""
from __future__ import annotations

import contextlib
import fnmatch
import gc
import hashlib
import json
import math
import os
import re
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import hypothesis
import pytest
from mutmut import __main__ as mutmut
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.trampoline import set_mutant_under_test
from mutmut.state import state
from mutmut.utils.file_utils import change_cwd, walk_mutatable_files
from mutmut.utils.format_utils import mangled_name_from_mutant_name

LIMIT = float(os.environ.get("VSF_SECONDS", "20"))  # of a survivor's tests, as they take without a mutant
MEMORY = 8 * 2**30  # bytes that a mutant may take
SURVIVED, UNREACHED = 0, 33  # as mutmut writes them; None: not run
OUTSIDE = {  # functions of which this machine cannot tell right from wrong, with the reason
    "cuda_flash": "runs on a GPU alone: tests/core/test_cuda.py",
    "cuda_cudnn": "runs on a GPU alone: tests/core/test_cuda.py",
    "cuda_efficient": "runs on a GPU alone: tests/core/test_cuda.py",
}


def function_of(mutant: str) -> str:
    """vsf_pack.vsf_core.forms.x__chunks__mutmut_3 -> vsf_pack.vsf_core.forms.x__chunks"""
    return mangled_name_from_mutant_name(mutant)


def name_of(mutant: str) -> str:
    """vsf_pack.vsf_core.forms.x__chunks__mutmut_3 -> _chunks"""
    return re.split(r"x_|ǁ", function_of(mutant).rpartition(".")[2])[-1]


def chance(mutant: str) -> bytes:
    """Its place in an order by chance, which stays when others come and go."""
    return hashlib.sha256(mutant.encode()).digest()


class Mutants:
    """The pytest plugin that runs them, in the place of the tests."""

    def __init__(self, patterns: list[str], number: int | None, children: int, equivalent: Path) -> None:
        self.files = {str(path): SourceFileMutationData(path=path) for path in walk_mutatable_files()}
        for file in self.files.values():
            file.load()
            file.meta_path = file.meta_path.resolve()  # the tests run in another folder
        self.home = {name: file for file in self.files.values() for name in file.exit_code_by_key}
        chosen = sorted((name for name in self.home if name_of(name) not in OUTSIDE), key=chance)
        self.all = [name for name in chosen if not patterns or any(fnmatch.fnmatch(name, p) for p in patterns)][:number]
        # a line, another in its place, and in which function, if not in all
        self.known = set(re.findall(r"^(?:in (\w+)\n)?- (.*)\n\+ (.*)$", equivalent.read_text(encoding="utf-8"), re.MULTILINE))
        kinds = {name: self.kind(name) for name in self.all}
        self.todo = [name for kind in ("survived", "not run") for name in self.all if kinds[name] == kind]
        self.children, self.running = children, {}
        self.took: dict[pytest.Item, float] = {}
        self.reach: defaultdict[str, list[pytest.Item]] = defaultdict(list)
        self.killers: defaultdict[str, Counter[pytest.Item]] = defaultdict(Counter)
        self.broken: list[str] = []
        self.pipe: int | None = None  # in a fork: where to tell what failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """The end of a fork, before pytest begins to describe what failed, which takes seconds in files of many mutants."""
        if call.excinfo is None or call.excinfo.errisinstance((pytest.skip.Exception, pytest.xfail.Exception)):
            return
        if self.pipe is None:
            self.broken.append(item.nodeid)
        else:
            os.write(self.pipe, item.nodeid.encode())
            os._exit(1)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.learn(session.items)
        if self.broken:
            raise pytest.UsageError(f"tests fail without a mutant: {', '.join(self.broken)}")
        print(f"{len(self.all)} mutants, {len(self.todo)} to run; {len(self.took)} tests take {sum(self.took.values()):.0f} s",
              flush=True)
        gc.collect()
        gc.freeze()  # a collection in a fork would make a copy of all that there is
        started = time.monotonic()
        try:
            for i, name in enumerate(self.todo):
                if len(self.running) == self.children:
                    self.wait()
                self.start(name)
                if i % 50 == 49:
                    print(f"{i + 1} of {len(self.todo)}, {time.monotonic() - started:.0f} s", flush=True)
            while self.running:
                self.wait()
        finally:
            for pid in self.running:
                os.kill(pid, signal.SIGKILL)
        return True

    def learn(self, items: list[pytest.Item]) -> None:
        """What each test takes, and which functions it reaches."""
        os.environ["MUTMUT_DEPENDENCY_DEPTH"] = "-1"
        set_mutant_under_test("stats")
        for item, following in zip(items, [*items[1:], None], strict=True):
            state()._stats.clear()
            before = time.process_time()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            self.took[item] = time.process_time() - before
            for function in state()._stats:
                self.reach[function].append(item)
        set_mutant_under_test("")

    def tests_of(self, function: str) -> list[pytest.Item]:
        """In the order in which they are run."""
        turn: Counter[str] = Counter()
        order = {}
        for item in sorted(self.reach[function], key=self.took.get):
            test = item.nodeid.partition("[")[0]
            order[item] = (-self.killers[function][item], turn[test], self.took[item])
            turn[test] += 1
        chosen, seconds = [], 0.0
        for item in sorted(order, key=order.get):
            seconds += self.took[item]
            if not chosen or seconds <= LIMIT:
                chosen.append(item)
        return chosen

    def start(self, name: str) -> None:
        tests = self.tests_of(function_of(name))
        if not tests:
            self.found(name, UNREACHED)
            return
        read, write = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid:
            os.close(write)
            self.running[pid] = (name, read)
            return
        try:
            seconds = int(5 + 3 * sum(self.took[item] for item in tests))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            signal.alarm(20 * seconds)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            self.pipe = write
            set_mutant_under_test(name)
            for item, following in zip(tests, [*tests[1:], None], strict=True):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            os._exit(SURVIVED)
        finally:
            os._exit(3)  # pytest itself was ended by the mutant

    def wait(self) -> None:
        """Until one of the forks has ended."""
        pid, status, used = os.wait4(-1, 0)
        name, read = self.running.pop(pid)
        with os.fdopen(read, "rb") as pipe:
            killer = pipe.read().decode()
        for item in self.reach[function_of(name)]:
            if item.nodeid == killer:
                self.killers[function_of(name)][item] += 1
        self.home[name].durations_by_key[name] = used.ru_utime + used.ru_stime
        self.found(name, os.waitstatus_to_exitcode(status))

    def found(self, name: str, code: int) -> None:
        file = self.home[name]
        file.exit_code_by_key[name] = code
        file.save()
        if code in (SURVIVED, UNREACHED):
            print(f"alive: {name}", flush=True)

    def kind(self, name: str) -> str:
        """What became of a mutant. Called where the folder `mutants` is."""
        code = self.home[name].exit_code_by_key[name]
        if code in (SURVIVED, UNREACHED):
            change = change_of(name, self.home[name].path)
            return "equivalent" if {("", *change), (name_of(name), *change)} & self.known else "survived"
        return "not run" if code is None else "killed"


def change_of(mutant: str, path: Path) -> tuple[str, str]:
    """The lines that a mutant takes out and puts in, each as one line."""
    shown = get_diff_for_mutant(mutant, path=path).splitlines()[2:]
    before, after = (" ".join(line[1:].strip() for line in shown if line.startswith(sign)) for sign in "-+")
    return before, after


def interval(part: int, of: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, part / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def report(mutants: Mutants) -> str:
    """Prints the survivors that are not known to be equivalent; returns the figure."""
    kinds = {name: mutants.kind(name) for name in mutants.all}
    for name in (name for name, kind in kinds.items() if kind == "survived"):
        print(f"survived: {name}\n- %s\n+ %s" % change_of(name, mutants.home[name].path))
    counts = Counter(kinds.values())
    killed, judged = counts["killed"], counts["killed"] + counts["survived"]
    low, high = interval(killed, judged) if judged else (0.0, 1.0)
    return (f"mutmut on vsf_core by tests/core: {killed} of {judged} killed ({killed / max(judged, 1):.1%}, as a sample 95% "
            f"interval {low:.1%} to {high:.1%}), {counts['equivalent']} more are equivalent, {counts['not run']} not run")


def main(arguments: list[str]) -> int:
    folder, equivalent, *words = arguments
    os.chdir(folder)
    number = next((int(word) for word in words if word.isdigit()), None)
    set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    for made in (Path("mutants") / path for path in walk_mutatable_files()):
        last = Path(f"{made}.spans")  # what mutmut writes last of a file
        if made.is_file() and (not last.is_file() or last.stat().st_mtime < made.stat().st_mtime):
            made.unlink()
    with contextlib.redirect_stdout(None):
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.setup_source_paths()
        mutmut.create_mutants(1)
    hypothesis.settings.register_profile("mutants", database=None, derandomize=True, deadline=None,
                                         phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate))  # nothing is shrunk
    hypothesis.settings.load_profile("mutants")
    mutants = Mutants([word for word in words if not word.isdigit()], number, int(os.environ.get("VSF_CHILDREN", "2")),
                      Path(equivalent))
    asked = json.loads(Path("tests.json").read_text(encoding="utf-8"))
    with change_cwd("mutants"):
        code = pytest.main(["--rootdir=.", "-q", "-s", "--no-header", "--disable-warnings", "-p", "no:faulthandler", *asked],
                           plugins=[mutants])
    Path("found.txt").write_text(report(mutants), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
