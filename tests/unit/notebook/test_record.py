"""The job record: what it says in every state, and that it is small, closed and harmless HTML."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_nb.jobs import JobStatus
from flash_nb.notebook.record import JobView, ValueSize, render_html, render_text
from flash_nb.sdk.look import human_size, human_time

DONE = JobView(
    title="train_model",
    status=JobStatus.COMPLETED,
    resource="gpu-big",
    hardware="A100 80 GB (AMPERE_80) · 0–3 workers · idle 60 s",
    worker="w-7f3a91c2",
    job_id="5f2b8c0e9d1a4b67-u1",
    queued_s=0.31,
    cold_s=41.2,
    run_s=158.4,
    elapsed_s=200.1,
    dependencies=("torch", "numpy"),
    inputs=(ValueSize("X", 7_000_000, "ndarray"), ValueSize("config", 812, "dict")),
    outputs=(ValueSize("model", 1_240_000, "Model"), ValueSize("X", 7_000_000)),
    changed=("X",),
    unbound=(("loader", "cannot pickle '_io.TextIOWrapper'"),),
    attempts=2,
)
RUNNING = JobView(
    title="cell 4",
    status=JobStatus.IN_PROGRESS,
    resource="gpu-big",
    phase="building environment: downloading torch (780 MB)",
    elapsed_s=12.4,
)
WORDS = {
    JobStatus.IN_QUEUE: "○ queued",
    JobStatus.IN_PROGRESS: "◐ running",
    JobStatus.COMPLETED: "✓ completed",
    JobStatus.FAILED: "✗ failed",
    JobStatus.CANCELLED: "⊘ cancelled",
    JobStatus.TIMED_OUT: "◷ timed out",
}


class Reader(HTMLParser):
    """Collects text, tags and attributes, and checks that every tag is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], set(), set(), []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (9_949, "9.9 KB"),
        (9_950, "10 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (7_000_000, "7.0 MB"),
        (780_000_000, "780 MB"),
        (2_500_000_000, "2.5 GB"),
        (3 * 10**15, "3000 TB"),
    ],
)
def test_size(size, text):
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.004, "4 ms"),
        (0.0994, "99 ms"),
        (0.0995, "0.1 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_time(seconds, text):
    assert human_time(seconds) == text


@pytest.mark.parametrize("status", JobStatus)
def test_every_status_has_a_word_in_both_forms(status):
    view = replace(DONE, status=status)
    assert Reader(render_html(view)).text.startswith(f"{WORDS[status]} train_model on gpu-big")
    assert render_text(view).startswith(f"{WORDS[status]} train_model on gpu-big")


def test_line_of_a_finished_job():
    line = "3 min 20 s · 7.0 MB in → 8.2 MB out · changed X · 1 not returned"
    assert line in Reader(render_html(DONE)).text
    assert line in render_text(DONE)


def test_what_the_cache_did():
    reused = replace(DONE, cache="reused from 14:02 · saved 4 min 12 s · $0.12")
    for text in (Reader(render_html(reused)).text, render_text(reused)):
        assert text.startswith(
            "✓ completed train_model on gpu-big · reused from 14:02 · saved 4 min 12 s · $0.12"
        )
    assert "cache kept, 1.2 MB" in Reader(render_html(replace(DONE, kept="kept, 1.2 MB"))).text
    assert "cache" not in Reader(render_html(DONE)).text


def test_details_of_a_finished_job():
    text = Reader(render_html(DONE)).text
    for row in (
        "hardware A100 80 GB (AMPERE_80) · 0–3 workers · idle 60 s",
        "time queued 0.3 s · cold start 41 s · run 2 min 38 s",
        "worker w-7f3a91c2",
        "job 5f2b8c0e9d1a4b67-u1",
        "attempts 2",
        "installed torch, numpy",
        "sent X (ndarray, 7.0 MB), config (dict, 812 B)",
        "returned model (Model, 1.2 MB), X (7.0 MB)",
        "not returned loader: cannot pickle '_io.TextIOWrapper'",
    ):
        assert row in text


def test_running_shows_its_phase_and_its_time():
    assert "downloading torch (780 MB) · 12 s" in Reader(render_html(RUNNING)).text
    assert render_text(RUNNING) == (
        "◐ running cell 4 on gpu-big · building environment: downloading torch (780 MB) · 12 s"
    )


def test_phase_is_not_said_twice_nor_after_the_end():
    assert render_text(replace(RUNNING, phase="running")).count("running") == 1
    assert "building" not in render_html(replace(RUNNING, status=JobStatus.COMPLETED))


def test_nothing_folds_out_while_it_is_live():
    live = render_html(replace(RUNNING, live=True))
    assert Reader(live).tags == {"div", "span", "b"}
    assert Reader(live).text == Reader(render_html(RUNNING)).text


def test_cancelled_is_said_once():
    view = replace(DONE, status=JobStatus.CANCELLED, error="cancelled")
    assert render_text(view).count("cancelled") == 1


def test_failure_shows_its_error():
    view = replace(DONE, status=JobStatus.FAILED, error="ValueError: bad shape")
    assert "ValueError: bad shape" in Reader(render_html(view)).text.split("hardware")[0]
    assert "ValueError: bad shape" in render_text(view).splitlines()[0]


def test_simulated_hardware_is_said_in_the_line_that_is_always_seen():
    view = replace(DONE, note="simulated on this machine's CPU")
    assert "simulated on this machine's CPU" in Reader(render_html(view)).text.split("hardware")[0]
    assert "simulated on this machine's CPU" in render_text(view)


def test_text_has_at_most_three_lines():
    assert render_text(DONE).splitlines()[1:] == [
        "  A100 80 GB (AMPERE_80) · 0–3 workers · idle 60 s",
        "  loader: cannot pickle '_io.TextIOWrapper'",
    ]


def test_nothing_that_could_clash_or_be_removed():
    assert "var(" not in render_html(DONE), "JupyterLab's sanitizer drops it"
    reader = Reader(render_html(DONE))
    assert reader.tags <= {"div", "details", "summary", "span", "b"}
    assert reader.attributes == {"style"}


def test_size_of_a_typical_and_of_a_huge_record():
    assert len(render_html(DONE).encode()) < 2500
    values = tuple(ValueSize(f"value_{number}", number, "ndarray") for number in range(10_000))
    huge = replace(DONE, inputs=values, outputs=values, error="x" * 10_000)
    assert len(render_html(huge).encode()) < 5000
    assert "and 9992 more" in render_html(huge)


TEXT = st.text(st.sampled_from("<>&\"'ab;/=`\x00\n"), max_size=20)


@given(TEXT, TEXT, TEXT, TEXT, TEXT)
def test_texts_are_escaped(title, phase, name, reason, note):
    view = JobView(
        title=title,
        status=JobStatus.IN_PROGRESS,
        resource=name,
        phase=phase,
        hardware=reason,
        note=note,
        worker=name,
        job_id=name,
        dependencies=(name,),
        inputs=(ValueSize(name, 1, name),),
        outputs=(ValueSize(name, 1, reason),),
        changed=(name,),
        unbound=((name, reason),),
        error=reason,
    )
    plain = replace(view, title="t", resource="r", phase="p", note="n" if note else note)
    reader = Reader(render_html(view))
    assert reader.tags <= Reader(render_html(plain)).tags
    assert reader.attributes == {"style"}
    assert title in reader.text
