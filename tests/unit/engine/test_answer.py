"""Jobs as Runpod's ``/status`` says them."""

from __future__ import annotations

import base64
import json

import pytest

from flash_nb.engine import answer
from flash_nb.engine.state import Job, Needs
from flash_nb.jobs import JobStatus
from flash_nb.worker import frames

DONE = JobStatus.COMPLETED


def job(status: JobStatus = DONE, **fields) -> Job:
    times = {"started_at": 101.5, "ended_at": 103.0} if status.is_final else {}
    return Job("j1", "ep", Needs("3.12"), 100.0, 200.0, status=status, worker_id="w-1", **{**times, **fields})


def stored(result: dict, *values: bytes) -> bytes:
    return frames.encode({"type": "done", "job": "j1"}, [json.dumps(result).encode(), *values])


def test_times_are_whole_milliseconds_and_ids_are_told():
    said = answer.status_of(job(cold_s=1.0), stored({"ok": True, "json": True}, b"[1]"))
    assert said == {
        "id": "j1",
        "status": "COMPLETED",
        "delayTime": 1500,
        "executionTime": 1500,
        "workerId": "w-1",
        "output": [1],
    }


def test_a_job_that_is_not_over_has_no_output():
    said = answer.status_of(job(JobStatus.IN_PROGRESS, started_at=101.0))
    assert (said["status"], said["workerId"], said["delayTime"]) == ("IN_PROGRESS", "w-1", 1000)
    assert "output" not in said


def test_a_job_that_never_ran_has_every_field():
    over = job(JobStatus.CANCELLED, started_at=None, error="cancelled")
    over.worker_id = ""
    assert answer.status_of(over, is_live=False) == {
        "id": "j1",
        "status": "CANCELLED",
        "delayTime": 0,
        "executionTime": 0,
        "workerId": "",
        "output": None,
        "error": "cancelled",
    }


@pytest.mark.parametrize("output", [None, 0, "", {}, {"stdout": None}, [1.5, "é"], {"error": ""}])
def test_what_a_handler_returned_is_the_output(output):
    frame = stored({"ok": True, "json": True}, json.dumps(output).encode())
    assert answer.status_of(job(), frame, "printed")["output"] == output


def test_what_a_live_request_printed_is_in_its_response():
    response = json.dumps({"success": True, "result": "gAQ=", "error": None, "stdout": None}).encode()
    frame = stored({"ok": True, "json": True, "live": True}, response)
    assert answer.status_of(job(), frame, "hi\n")["output"]["stdout"] == "hi\n"
    assert answer.status_of(job(), frame)["output"]["stdout"] is None


def test_what_a_handler_raised_is_json_in_a_string_as_workers_write_it():
    error = {"type": "ValueError", "message": "no", "text": "Traceback …", "chain": []}
    failed = job(JobStatus.FAILED, error="ValueError: no")
    said = answer.status_of(failed, stored({"ok": False, "json": True, "error": error}))
    assert said["output"] is None
    written = json.loads(said["error"])
    assert written["error_type"] == "<class 'ValueError'>"
    assert (written["error_message"], written["error_traceback"]) == ("no", "Traceback …")
    assert written["worker_id"] == "w-1"


def test_an_error_that_a_handler_returned_is_told_as_it_is():
    error = {"type": "HandlerError", "message": "bad input", "text": "…", "chain": []}
    failed = job(JobStatus.FAILED, error="HandlerError: bad input")
    said = answer.status_of(failed, stored({"ok": False, "json": True, "error": error}))
    assert said["error"] == "bad input"


def test_a_value_of_our_own_channel_stays_a_pickle():
    frame = stored({"ok": True, "counts": [1], "json_result": 5}, b"\x80\x05K\x05.")
    assert answer.status_of(job(), frame, "out")["output"] == {
        "success": True,
        "result": base64.b64encode(b"\x80\x05K\x05.").decode(),
        "error": None,
        "stdout": "out",
        "json_result": 5,
    }


def test_a_pickle_with_buffers_beside_it_cannot_be_told():
    output = answer.status_of(job(), stored({"ok": True, "counts": [2]}, b"a", b"b"))["output"]
    assert (output["success"], output["result"]) == (True, None)
    assert "too large" in output["error"]


def test_a_cell_brings_its_output_and_no_value():
    output = answer.status_of(job(), stored({"ok": True, "namespace": [], "counts": [1]}, b"x"), "out")[
        "output"
    ]
    assert (output["success"], output["result"], output["stdout"]) == (True, None, "out")


def test_a_live_job_that_no_worker_ran_still_says_why_in_its_output():
    failed = job(JobStatus.FAILED, error="numpy==99 cannot be installed")
    said = answer.status_of(failed, frames.encode({"type": "done"}))
    assert said["error"] == said["output"]["error"] == "numpy==99 cannot be installed"
    assert said["output"]["success"] is False


def test_json_in_a_spill_file_is_read(tmp_path):
    values = [json.dumps({"ok": True, "json": True}).encode(), json.dumps("x" * 100).encode()]
    header, _ = frames.spill({"type": "done"}, values, [str(tmp_path)], 10)
    assert answer.status_of(job(), frames.encode(header))["output"] == "x" * 100


def test_a_pickle_in_a_spill_file_is_not_read_nor_one_that_is_gone(tmp_path):
    values = [json.dumps({"ok": True, "counts": [1]}).encode(), b"x" * 100]
    header, _ = frames.spill({"type": "done"}, values, [str(tmp_path)], 10)
    frame = frames.encode(header)
    assert "too large" in answer.status_of(job(), frame)["output"]["error"]
    for file in tmp_path.iterdir():
        file.unlink()
    assert "too large" in answer.status_of(job(), frame)["output"]["error"]


def test_only_the_time_to_live_makes_a_job_expire():
    assert answer.is_expired(job(JobStatus.TIMED_OUT, ended_at=200.1))
    assert not answer.is_expired(job(JobStatus.TIMED_OUT, ended_at=150.0))
    assert not answer.is_expired(job(ended_at=200.1))


def test_chunks_are_json_where_they_are():
    items = [{"index": 0, "value": "gAQ=", "json": {"step": None}}, {"index": 1, "value": "gAQ="}]
    assert answer.chunks_of(items) == [{"output": {"step": None}}, {"output": {"result": "gAQ="}}]
