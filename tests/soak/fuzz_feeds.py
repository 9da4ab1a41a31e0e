"""Coverage-guided fuzzing of every format reader and every source's parser (atheris).

    fuzz_feeds.py [seconds in total] [folder]

Each target gets an equal share of the seconds in slices, as many at once as there are
cores. The folder (default: under $TMPDIR) keeps the corpus that was found, and what was
done today with the same code: a run that was killed goes on from there. A finding is an
exception other than InvalidInput, spans that are not the body, an input that takes longer
than 1 s per 100 kB begun, or one that ends the process. Prints one JSON object.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLICE_SECONDS = 60.0
#: an input may take so long for each 100 kB begun; libFuzzer ends one that takes HANG_SECONDS
SECONDS_PER_100_KB, HANG_SECONDS = 1.0, 60
LONGEST = 100_000


def main(seconds: float = 3_600.0, folder: str = "") -> None:
    root = Path(folder or Path(tempfile.gettempdir()) / "aiqleads-fuzz")
    root.mkdir(parents=True, exist_ok=True)
    names = targets()
    state = State(root / "state.json", names)
    share = seconds / len(names)
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        # Rounds, so that a run that is killed has tried every target.
        done = 0.0
        while done < share:
            done = min(share, done + SLICE_SECONDS)
            list(pool.map(lambda name, until=done: state.fuzz(name, until), names))
    result = state.result(seconds)
    print(json.dumps(result))
    sys.exit(not result["ok"])


def targets() -> dict[str, str]:
    """`format.<reader>` and `source.<name>`, each with the digest of what is fuzzed there."""
    listed = [sys.executable, __file__, "--list"]
    lines = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(line.split() for line in lines)


class State:
    """What was fuzzed today, in a file that is replaced whole after each slice."""

    def __init__(self, file: Path, digests: dict[str, str]) -> None:
        """A target whose digest is another than that of its kept figures begins anew."""
        self._file, self._guard = file, threading.Lock()
        day = dt.datetime.now(dt.UTC).date().isoformat()
        kept = json.loads(file.read_text()) if file.is_file() else {}
        before = kept.get("targets", {}) if kept.get("day") == day else {}
        same = {
            name: before[name]
            for name, digest in digests.items()
            if before.get(name, {}).get("digest") == digest
        }
        found = [each for each in kept.get("findings", ()) if each["target"] in same]
        self._digests = digests
        self._said = {"day": day, "targets": same, "findings": found}

    def fuzz(self, name: str, until: float) -> None:
        """Fuzzes one target until it has had so many seconds."""
        folder = self._file.parent / name
        (folder / "corpus").mkdir(parents=True, exist_ok=True)
        left = until - self._said["targets"].get(name, {}).get("seconds", 0.0)
        while left > 0.5:
            slice_ = run_slice(name, folder, left)
            with self._guard:
                self._add(name, slice_)
            left -= slice_["seconds"]

    def _add(self, name: str, slice_: dict[str, object]) -> None:
        had = self._said["targets"].setdefault(
            name, {"digest": self._digests[name], "seconds": 0.0, "executions": 0}
        )
        had["seconds"] = round(had["seconds"] + slice_["seconds"], 1)
        had["executions"] += slice_["executions"]
        known = {each["where"] for each in self._said["findings"]}
        fresh = [each for each in slice_["findings"] if each["where"] not in known]
        self._said["findings"] += fresh
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._said, indent=1))
        part.replace(self._file)
        print(f"{name}: {had['seconds']:.0f} s, {had['executions']:,} runs", file=sys.stderr)

    def result(self, asked: float) -> dict[str, object]:
        per_target = self._said["targets"].values()
        fuzzed = sum(each["seconds"] for each in per_target)
        return {
            "name": "feeds.fuzzed",
            **self._said,
            "seconds": round(fuzzed, 1),
            "executions": sum(each["executions"] for each in per_target),
            "ok": not self._said["findings"] and fuzzed >= 0.95 * asked,
        }


def run_slice(name: str, folder: Path, seconds: float) -> dict[str, object]:
    """One process of libFuzzer; what ended it before its time is a finding."""
    report = folder / "slice.json"
    report.unlink(missing_ok=True)
    arguments = [sys.executable, __file__, "--target", name, str(folder), str(int(seconds + 0.5))]
    started = time.monotonic()
    with (folder / "log.txt").open("wb") as log:
        code = subprocess.run(arguments, stdout=log, stderr=log, cwd=ROOT, check=False).returncode
    took = time.monotonic() - started
    said = json.loads(report.read_text()) if report.is_file() else {}
    found = list(said.get("findings", []))
    if code:
        last = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-15:]
        found.append({"target": name, "where": f"{name} ended with {code}", "said": last})
    # The time that a process takes to start is no fuzzing; one that cannot start ends the loop.
    spent = said.get("seconds", 0.0) if not code else max(took, 1.0)
    return {"seconds": spent or took, "executions": said.get("executions", 0), "findings": found}


# -- inside the process of one target ---------------------------------------------------


class Watch:
    """Runs one input after another, and writes down what was found."""

    def __init__(self, name: str, folder: Path, run: Callable[[bytes], object]) -> None:
        from aiqleads.errors import InvalidInput

        self._expected, self._run, self._name, self._folder = InvalidInput, run, name, folder
        self._executions, self._begun, self._written = 0, time.monotonic(), 0.0
        self._findings: dict[str, dict[str, object]] = {}

    def one(self, body: bytes, again: bool = False) -> None:
        started = time.process_time()
        try:
            self._run(body)
        except self._expected:
            pass
        except Exception as error:
            self._found(body, _place(error), "".join(traceback.format_exception(error))[-3_000:])
        took = time.process_time() - started
        slow = took > SECONDS_PER_100_KB * (1 + len(body) // 100_000)
        if slow and not again:
            self.one(body, again=True)  # the first time may have loaded tables
            return
        if slow:
            self._found(body, f"{self._name} is slow", f"{took:.1f} s for {len(body):,} bytes")
        self._executions += 1
        if time.monotonic() - self._written > 1.0:
            self._write()

    def _found(self, body: bytes, where: str, said: str) -> None:
        if where not in self._findings:
            file = self._folder / f"finding-{hashlib.sha256(body).hexdigest()[:12]}"
            file.write_bytes(body)
            known = {"target": self._name, "where": where, "said": said, "input": str(file)}
            self._findings[where] = known
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        said = {
            "seconds": round(self._written - self._begun, 1),
            "executions": self._executions,
            "findings": list(self._findings.values()),
        }
        part = self._folder / "slice.part"
        part.write_text(json.dumps(said))
        part.replace(self._folder / "slice.json")


def _place(error: BaseException) -> str:
    """Type of an error and the line of ours that it came through last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "aiqleads" in frame.filename] or frames
    return f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"


def fuzz_target(name: str, folder: Path, seconds: int) -> None:
    """Does not come back: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["aiqleads.ingest", "json", "email", "xml", "csv"]):
        import feed_seeds as seeds

        run, bodies = _target(seeds, name)
    started = folder / "seeds"
    for each in (started, folder / "corpus"):
        each.mkdir(parents=True, exist_ok=True)
    for body in bodies:
        (started / hashlib.sha256(body).hexdigest()[:16]).write_bytes(body)
    watch = Watch(name, folder, run)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-timeout={HANG_SECONDS}",
        "-rss_limit_mb=4096",
        f"-artifact_prefix={folder}/ended-",
        "-reload=0",
    ]
    atheris.Setup([__file__, str(folder / "corpus"), str(started), *options], watch.one)
    atheris.Fuzz()


def _target(seeds: object, name: str) -> tuple[Callable[[bytes], object], list[bytes]]:
    from aiqleads.ingest.payload import payload_of

    kind, _, which = name.partition(".")
    if kind == "source":
        given = seeds.seeds_of(which)

        def take_in(body: bytes) -> None:
            # The contract takes most of the time: one input in eight is held against it.
            seeds.take_in(given, body, contract=not sum(body) % 8)

        return take_in, list(given.bodies)

    def read(body: bytes) -> None:
        packed = seeds.workbook_of(body) if which == "xlsx" else body
        seeds.read_whole(payload_of(packed, "body"), "value")

    return read, seeds.format_seeds()[which]


def list_targets() -> None:
    """What a target runs through: the modules that all sources load, the harness, its own."""
    import feed_seeds as seeds

    from aiqleads.ingest.sources import SOURCES

    own = {
        name: Path(sys.modules[source.parse.__module__].__file__ or "")
        for name, source in SOURCES.items()
    }
    loaded = {
        Path(module.__file__)
        for name, module in sys.modules.items()
        if name.startswith("aiqleads.") and getattr(module, "__file__", None)
    }
    here = Path(__file__).parent
    shared = hashlib.sha256()
    for path in sorted({*loaded, here / "fuzz_feeds.py", here / "feed_seeds.py"} - {*own.values()}):
        shared.update(path.read_bytes())
    for name in seeds.format_seeds():
        print(f"format.{name} {shared.hexdigest()[:16]}")
    for name, path in own.items():
        digest = shared.copy()
        digest.update(path.read_bytes())
        print(f"source.{name} {digest.hexdigest()[:16]}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--list"]:
            list_targets()
        case ["--target", name, folder, seconds]:
            fuzz_target(name, Path(folder), int(seconds))
        case given:
            main(*(convert(each) for convert, each in zip((float, str), given, strict=False)))
