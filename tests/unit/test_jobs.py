"""A job's statuses and its output."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from flash_nb.jobs import TRANSITIONS, JobOutput, JobStatus, new_job_id, utc

FINAL = {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.TIMED_OUT}


def test_every_status_has_its_transitions():
    assert TRANSITIONS.keys() == set(JobStatus)


def test_final_statuses_are_those_that_nothing_follows():
    assert {status for status in JobStatus if status.is_final} == FINAL


def test_only_a_running_job_completes():
    assert [s for s in JobStatus if JobStatus.COMPLETED in TRANSITIONS[s]] == [JobStatus.IN_PROGRESS]


def test_a_job_may_come_back_to_the_queue():
    assert JobStatus.IN_QUEUE in TRANSITIONS[JobStatus.IN_PROGRESS]


def test_statuses_are_runpods_words():
    assert JobStatus("IN_QUEUE") is JobStatus.IN_QUEUE
    assert {s.value for s in JobStatus} == {s.name for s in JobStatus}


def test_job_ids_differ():
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(job_id.endswith("-u1") for job_id in ids)


def test_an_output_unwraps_to_its_value_or_raises_what_went_wrong():
    assert JobOutput("j", "COMPLETED", output=3).unwrap() == 3
    error = ValueError("no")
    with pytest.raises(ValueError, match="no") as caught:
        JobOutput("j", "FAILED", error="ValueError: no", exception=error).unwrap()
    assert caught.value is error


def test_an_output_in_one_line():
    done = JobOutput("j", "COMPLETED", output=[1], workerId="w-1", executionTime=12)
    assert str(done) == "JobOutput COMPLETED in 12 ms on w-1: [1]"
    failed = JobOutput("j", "FAILED", error="ValueError: no\ntraceback", executionTime=1)
    assert str(failed) == "JobOutput FAILED in 1 ms on –: ValueError: no"
    assert len(str(JobOutput("j", "COMPLETED", output="x" * 10_000))) < 300


def test_html_is_escaped():
    html = JobOutput("j<b>", "COMPLETED", output="<script>")._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "j&lt;b&gt;" in html


def test_the_exception_is_not_part_of_equality():
    assert JobOutput("j", "FAILED", error="e", exception=ValueError()) == JobOutput("j", "FAILED", error="e")


def test_times_are_utc():
    assert utc(None) is None
    assert utc(0.0) == datetime(1970, 1, 1, tzinfo=timezone.utc)
