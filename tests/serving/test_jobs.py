"""Jobs in real processes: one at a time, told of at any moment, gone with their server."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from cinelabel.core.errors import InputError, OutputError
from cinelabel.serving import jobs, work
from cinelabel.serving.jobs import Job, JobRunner, Limits, QueueFull, UnknownJob

DEADLINE_S = 60
LIMITS = Limits(waiting=3, restarts=1, cancel_s=0.5, stop_s=0.5, poll_s=0.02)
HERE = str(Path(__file__).parent)
KINDS = {
    name: work.Kind(f"job_kinds:{name}", resumable=name == "second_time")
    for name in ("echo", "wait", "second_time", "refuse", "flood", "die", "not_json", "tidy")
}
SERVER = """
import sys, time
from pathlib import Path
from cinelabel.serving.jobs import JobRunner, Limits
from cinelabel.serving.work import Kind
resumable = Kind("job_kinds:second_time", resumable=True)
kinds = {"second_time": resumable, "wait": Kind("job_kinds:wait")}
runner = JobRunner(Path(sys.argv[1]), Limits(restarts=1, poll_s=0.02), kinds)
print("ready", flush=True)
runner.resume()
for kind in sys.argv[3:]:
    runner.start(kind, {"deaths": int(sys.argv[2])}, "a server")
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _kinds_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)


@pytest.fixture
def make_runner(tmp_path: Path) -> Iterator[Callable[..., JobRunner]]:
    made = []

    def make(limits: Limits = LIMITS) -> JobRunner:
        made.append(JobRunner(tmp_path / "jobs", limits, KINDS))
        return made[-1]

    yield make
    for runner in made:
        runner.close()


@pytest.fixture
def runner(make_runner: Callable[..., JobRunner]) -> JobRunner:
    return make_runner()


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def ended(runner: JobRunner, job: Job) -> Job:
    until(lambda: runner.job(job.id).has_ended)
    return runner.job(job.id)


def pids(runner: JobRunner, job: Job) -> list[int]:
    """Keeper, worker and the worker's child of a job of the kind `wait`."""
    path = runner.folder / job.id / "pids.json"
    until(path.exists)
    return json.loads(path.read_text())


def gone(numbers: list[int]) -> bool:
    return not any(_lives(pid) for pid in numbers)


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def let_go(runner: JobRunner, job: Job) -> None:
    (runner.folder / job.id / "go").touch()


def start_server(folder: Path, *kinds: str, deaths: int = 1) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), str(deaths), *kinds],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"
    return server


def kill(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


def test_of_the_jobs_that_ended_the_newest_stay_and_those_that_others_continue(
    make_runner: Callable[..., JobRunner],
) -> None:
    runner = make_runner(replace(LIMITS, kept=2))
    first = ended(runner, runner.start("echo", {"say": "one"}, "anna"))
    other = ended(runner, runner.start("refuse", {}, "anna"))
    second = ended(runner, runner.start("echo", {"say": "two"}, "anna"))
    request = {"say": "on", "continues": first.id}
    rest = [ended(runner, runner.start("echo", request, "anna")) for _ in range(2)]
    until(lambda: not (runner.folder / second.id).exists())
    assert [job.id for job in runner.jobs()] == [job.id for job in (first, other, *rest)]
    with pytest.raises(UnknownJob):
        runner.job(second.id)
    make_runner(replace(LIMITS, kept=0)).resume()
    until(lambda: len(runner.jobs()) == 1)
    assert [path.name for path in runner.folder.glob("[!.]*")] == [first.id]
    until(lambda: not list(runner.folder.glob(".partial-*")))


def test_a_job_keeps_its_result_its_output_and_how_far_it_came(runner: JobRunner) -> None:
    job = ended(runner, runner.start("echo", {"say": "Grüße"}, "anna"))
    assert (job.state, job.who, job.exit_code, job.error) == ("done", "anna", 0, None)
    assert job.result == {"said": "Grüße", "argv": 3, "folder": str(runner.folder / job.id)}
    assert job.progress is not None
    assert (job.progress["stage"], job.progress["figures"]) == ("echo", {"loss": 0.5})
    assert runner.log(job.id) == "Grüße\n"
    assert json.loads(json.dumps(job.as_dict()))["created"] <= job.started < job.ended


def test_a_kind_is_one_that_the_server_offers_and_never_code(runner: JobRunner) -> None:
    for kind in ("job_kinds:echo", "os:system", "", "../echo"):
        with pytest.raises(InputError, match="there are no jobs of the kind"):
            runner.start(kind, {}, "anna")
    assert runner.jobs() == []


def test_the_offered_kinds_are_of_this_package() -> None:
    assert all(kind.function.startswith("cinelabel.") for kind in work.KINDS.values())


@pytest.mark.parametrize("name", ["", ".", "..", "../jobs", ".lock", "no-such-job", "a/b"])
def test_a_name_that_is_no_job_is_unknown(runner: JobRunner, name: str) -> None:
    ended(runner, runner.start("echo", {"say": ""}, ""))
    for ask in (runner.job, runner.log, runner.cancel):
        with pytest.raises(UnknownJob):
            ask(name)


def test_a_refusal_is_told_by_its_own_sentence(runner: JobRunner) -> None:
    job = ended(runner, runner.start("refuse", {}, "anna"))
    assert (job.state, job.error) == ("failed", "case-7: is empty. Choose another.")


def test_the_last_lines_of_a_failing_job_are_whole(runner: JobRunner) -> None:
    job = ended(runner, runner.start("flood", {}, "anna"))
    assert (job.state, job.exit_code) == ("failed", 1)
    assert job.error == "ZeroDivisionError: of flood"
    text = (runner.folder / job.id / "log.txt").read_text()
    assert text.count("\n") >= 40000
    assert "last wordsTraceback" in text
    assert runner.log(job.id, tail=1) == "ZeroDivisionError: of flood\n"
    assert len(runner.log(job.id, tail=10**9)) <= jobs.TAIL_BYTES


def test_a_job_that_a_signal_ends_leaves_its_last_words(runner: JobRunner) -> None:
    job = ended(runner, runner.start("die", {"signal": signal.SIGKILL}, "anna"))
    assert job.state == "failed"
    assert job.exit_code == -signal.SIGKILL
    assert "SIGKILL" in str(job.error)
    assert runner.log(job.id).endswith("no UTF-8: \ufffd\ufffd dying")


def test_a_crash_in_native_code_leaves_its_traceback(runner: JobRunner) -> None:
    job = ended(runner, runner.start("die", {"signal": signal.SIGSEGV}, "anna"))
    assert "SIGSEGV" in str(job.error)
    assert 'job_kinds.py", line' in runner.log(job.id)


def test_a_result_that_is_no_json_is_a_failure(runner: JobRunner) -> None:
    job = ended(runner, runner.start("not_json", {}, "anna"))
    assert job.state == "failed"
    assert "ValueError" in str(job.error)


def test_a_request_that_is_no_json_is_refused_and_leaves_nothing(runner: JobRunner) -> None:
    with pytest.raises(InputError, match="not ready for JSON"):
        runner.start("echo", {"say": object()}, "anna")
    assert runner.jobs() == []
    assert [path.name for path in runner.folder.iterdir() if path.is_dir()] == []


def test_one_job_runs_at_a_time_in_the_order_of_asking(runner: JobRunner) -> None:
    first, *others = [runner.start("wait", {}, "anna") for _ in range(3)]
    pids(runner, first)
    assert [job.state for job in runner.jobs()] == ["running", "queued", "queued"]
    for job in (first, *others):
        let_go(runner, job)
    states = [ended(runner, job) for job in (first, *others)]
    assert [job.state for job in states] == ["done"] * 3
    spans = [(job.started, job.ended) for job in states]
    assert sorted(spans) == spans
    assert all(one[1] <= next_one[0] for one, next_one in zip(spans, spans[1:], strict=False))


def test_only_so_many_jobs_wait(runner: JobRunner) -> None:
    pids(runner, runner.start("wait", {}, "anna"))
    waiting = [runner.start("wait", {}, "anna") for _ in range(LIMITS.waiting)]
    with pytest.raises(QueueFull, match="3 jobs wait already"):
        runner.start("wait", {}, "anna")
    runner.cancel(waiting[0].id)
    runner.start("wait", {}, "anna")


def test_two_servers_on_one_folder_share_the_queue(
    make_runner: Callable[..., JobRunner],
) -> None:
    one, other = make_runner(), make_runner()
    started = [server.start("wait", {}, "anna") for server in (one, other)]
    pids(one, started[0])
    assert [job.state for job in other.jobs()] == ["running", "queued"]
    other.resume()
    for job in started:
        let_go(one, job)
    assert [ended(other, job).state for job in started] == ["done", "done"]


def test_jobs_asked_for_at_once_by_two_servers_all_run_once(
    make_runner: Callable[..., JobRunner],
) -> None:
    servers = [make_runner(Limits(waiting=99, poll_s=0.02)) for _ in range(2)]
    started: list[Job] = []

    def ask(server: JobRunner, number: int) -> None:
        started.append(server.start("echo", {"say": f"job {number}"}, "anna"))

    threads = [threading.Thread(target=ask, args=(servers[n % 2], n)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {ended(servers[0], job).state for job in started} == {"done"}
    assert sorted(servers[1].log(job.id) for job in started) == [f"job {n}\n" for n in range(8)]


def test_a_cancelled_job_ends_with_all_that_it_started(runner: JobRunner) -> None:
    job = runner.start("wait", {}, "anna")
    family = pids(runner, job)
    runner.cancel(job.id, "ben")
    job = ended(runner, job)
    assert (job.state, job.error, job.exit_code) == ("cancelled", "Cancelled by ben.", work.STOPPED)
    until(lambda: gone(family))
    assert runner.cancel(job.id) == job


def test_a_job_that_does_not_stop_when_asked_is_killed(runner: JobRunner) -> None:
    job = runner.start("wait", {"stubborn": True}, "anna")
    family = pids(runner, job)
    runner.cancel(job.id)
    assert ended(runner, job).state == "cancelled"
    until(lambda: gone(family))


def test_any_server_can_cancel_a_job(make_runner: Callable[..., JobRunner]) -> None:
    one, other = make_runner(), make_runner()
    job = one.start("wait", {}, "anna")
    family = pids(one, job)
    other.cancel(job.id, "ben")
    assert ended(other, job).state == "cancelled"
    until(lambda: gone(family))


def test_a_queued_job_is_cancelled_without_ever_running(runner: JobRunner) -> None:
    first = runner.start("wait", {}, "anna")
    pids(runner, first)
    job = runner.start("echo", {"say": "never"}, "anna")
    assert runner.cancel(job.id, "ben").state == "cancelled"
    let_go(runner, first)
    ended(runner, first)
    after = runner.start("echo", {"say": "after"}, "anna")
    assert ended(runner, after).state == "done"
    assert runner.log(job.id) == ""


def test_a_job_and_its_children_die_with_their_server(
    tmp_path: Path, make_runner: Callable[..., JobRunner]
) -> None:
    server = start_server(tmp_path / "jobs", "wait")
    watcher = make_runner()
    try:
        until(lambda: len(watcher.jobs()) == 1)
        family = pids(watcher, watcher.jobs()[0])
    finally:
        kill(server)
    until(lambda: gone(family))
    assert watcher.jobs()[0].state == "running"
    watcher.resume()
    job = ended(watcher, watcher.jobs()[0])
    assert (job.state, job.crashes) == ("failed", 1)
    assert "server ended" in str(job.error)


@pytest.mark.parametrize("victim", [0, 1])
def test_nothing_is_left_when_one_of_the_two_processes_is_killed(
    runner: JobRunner, victim: int
) -> None:
    job = runner.start("wait", {}, "anna")
    family = pids(runner, job)
    os.kill(family[victim], signal.SIGKILL)
    job = ended(runner, job)
    assert (job.state, job.exit_code) == ("failed", -signal.SIGKILL)
    until(lambda: gone(family))


def test_a_resumable_job_goes_on_at_the_next_start_but_not_for_ever(
    tmp_path: Path, make_runner: Callable[..., JobRunner]
) -> None:
    watcher = make_runner()
    for crashes in range(LIMITS.restarts + 1):
        server = start_server(
            tmp_path / "jobs", *(["second_time"] if not crashes else []), deaths=9
        )
        try:
            until(lambda: watcher.jobs())
            (job,) = watcher.jobs()
            until(lambda n=crashes, j=job: _starts(watcher, j) == n + 1)
            pids(watcher, job)
        finally:
            kill(server)
    watcher.resume()
    job = ended(watcher, job)
    assert (job.state, job.crashes) == ("failed", LIMITS.restarts + 1)
    watcher.resume()
    assert watcher.job(job.id) == job


def _starts(runner: JobRunner, job: Job) -> int:
    path = runner.folder / job.id / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_another_server_takes_over_what_a_killed_one_left(
    tmp_path: Path, make_runner: Callable[..., JobRunner]
) -> None:
    server = start_server(tmp_path / "jobs", "second_time", "wait")
    watcher = make_runner()
    try:
        until(lambda: len(watcher.jobs()) == 2)
        pids(watcher, watcher.jobs()[0])
        mine = watcher.start("echo", {"say": "mine"}, "ben")
    finally:
        kill(server)
    pids(watcher, watcher.jobs()[1])
    let_go(watcher, watcher.jobs()[1])
    assert ended(watcher, mine).state == "done"
    assert [job.state for job in watcher.jobs()] == ["done"] * 3


def test_a_stopped_server_leaves_its_job_to_the_next(
    make_runner: Callable[..., JobRunner],
) -> None:
    first = make_runner()
    job = first.start("second_time", {}, "anna")
    family = pids(first, job)
    first.close()
    until(lambda: gone(family))
    assert (first.job(job.id).state, first.job(job.id).crashes) == ("interrupted", 0)
    second = make_runner()
    second.resume()
    until(lambda: second.job(job.id).state == "done")
    assert second.job(job.id).result == {"starts": 2}


def test_a_job_that_cannot_go_on_fails_when_its_server_stops(
    make_runner: Callable[..., JobRunner],
) -> None:
    first = make_runner()
    job = first.start("wait", {}, "anna")
    pids(first, job)
    first.close()
    job = first.job(job.id)
    assert (job.state, job.error) == ("failed", "It was stopped with its server.")


def test_a_result_that_its_server_did_not_live_to_note_counts(
    tmp_path: Path, make_runner: Callable[..., JobRunner]
) -> None:
    server = start_server(tmp_path / "jobs", "wait")
    watcher = make_runner()
    try:
        until(lambda: watcher.jobs())
        (job,) = watcher.jobs()
        pids(watcher, job)
    finally:
        kill(server)
    (watcher.folder / job.id / "result.json").write_text('{"done": {"late": 1}}')
    watcher.resume()
    job = ended(watcher, job)
    assert (job.state, job.result) == ("done", {"late": 1})


def test_states_are_whole_at_any_moment(runner: JobRunner) -> None:
    job = runner.start("wait", {}, "anna")
    folder = runner.folder / job.id
    seen = set()
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        state = json.loads((folder / "state.json").read_text())["state"]
        seen.add(state)
        if (folder / "progress.json").exists():
            assert json.loads((folder / "progress.json").read_text())["total"] == 10**6
            let_go(runner, job)
        if state == "done":
            break
    assert {"running", "done"} <= seen


def test_damaged_files_of_one_job_do_not_hide_the_others(runner: JobRunner) -> None:
    broken = ended(runner, runner.start("echo", {"say": "a"}, "anna"))
    whole = ended(runner, runner.start("echo", {"say": "b"}, "anna"))
    state = runner.folder / whole.id / "state.json"
    until(lambda: json.loads(state.read_text())["state"] == "done")
    (runner.folder / broken.id / "state.json").write_text('{"state": ')
    again = JobRunner(runner.folder, LIMITS, KINDS)
    assert again.job(whole.id).state == "done"
    assert "damaged" in str(again.job(broken.id).error)
    assert len(again.jobs()) == 2


def test_a_job_that_a_killed_server_had_half_begun_is_removed(runner: JobRunner) -> None:
    half = runner.folder / ".partial-2026-wait-1"
    half.mkdir(parents=True)
    (half / "request.json").write_text("{")
    assert runner.jobs() == []
    runner.resume()
    assert not half.exists()


def test_a_full_disk_refuses_a_job_and_leaves_nothing(
    runner: JobRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "write_json", _full)
    with pytest.raises(OutputError, match="disk is full"):
        runner.start("echo", {"say": ""}, "anna")
    assert runner.jobs() == []


def test_how_a_job_ended_is_told_and_kept_though_the_disk_was_full(
    make_runner: Callable[..., JobRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, other = make_runner(), make_runner()
    job = runner.start("wait", {}, "anna")
    pids(runner, job)
    with monkeypatch.context() as full:
        full.setattr(jobs, "write_json", _full)
        let_go(runner, job)
        assert ended(runner, job).state == "done"
        state = json.loads((runner.folder / job.id / "state.json").read_text())
        assert state["state"] == "running"
        other.resume()
    until(lambda: other.job(job.id).state == "done")
    assert other.job(job.id) == runner.job(job.id)


def _full(path: Path, obj: object) -> None:
    raise OutputError("cannot be written, the disk is full", where=path)


def test_a_process_whose_server_died_before_it_began_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"request": {}}')
    run = subprocess.run(
        [sys.executable, "-m", "cinelabel.serving.work", str(tmp_path), "job_kinds:wait"],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        timeout=DEADLINE_S,
    )
    assert run.returncode == work.STOPPED
    assert [path.name for path in tmp_path.iterdir()] == ["request.json"]


def test_a_job_can_tidy_up_when_it_is_cancelled(runner: JobRunner) -> None:
    job = runner.start("tidy", {}, "anna")
    until(lambda: runner.job(job.id).progress)
    runner.cancel(job.id)
    assert ended(runner, job).state == "cancelled"
    assert (runner.folder / job.id / "tidied").exists()
    assert runner.log(job.id) == ""


@pytest.mark.slow
def test_nothing_survives_a_server_that_is_killed_at_any_moment(tmp_path: Path) -> None:
    """50 servers, each killed up to 0.4 s after it began; the next one knows what was lost."""
    rng = random.Random(4)
    states: Counter[str] = Counter()
    for trial in range(50):
        folder = tmp_path / str(trial)
        server = start_server(folder, "wait")
        time.sleep(rng.uniform(0.0, 0.4))
        kill(server)
        until(lambda f=folder: not _of_folder(f))
        runner = JobRunner(folder, LIMITS, KINDS)
        states.update(job.state if job.error is None else "damaged" for job in runner.jobs())
        runner.resume()
        until(lambda r=runner: {job.state for job in r.jobs()} <= {"running", "failed"})
        runner.close()
        until(lambda f=folder: not _of_folder(f))
    print(f"\nstate on disk after the kill: {dict(states)}")
    assert set(states) <= {"queued", "running"}
    assert states["running"] > 10


def _of_folder(folder: Path) -> list[psutil.Process]:
    """Processes that have a folder in their command."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if str(folder) in " ".join(process.info["cmdline"] or [])]


def test_a_job_gives_way_to_the_server(runner: JobRunner) -> None:
    job = runner.start("wait", {}, "anna")
    _, worker, _ = pids(runner, job)
    assert psutil.Process(worker).nice() == min(19, psutil.Process().nice() + work.NICENESS)
    assert int(Path(f"/proc/{worker}/oom_score_adj").read_text()) == work.OUT_OF_MEMORY_SCORE
