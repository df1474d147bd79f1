"""What the benchmark computes and says: percentiles, pace, ratios, contenders, scenarios, JSON, budgets, pictures."""

from __future__ import annotations

import subprocess
import time
from functools import cache
from pathlib import Path

import msgspec
import pytest
from vsnd_hybrid.service.errors import ServiceError
from vsnd_hybrid.tools.bench import budgets, catalogue, contenders, markdown, plots, probe, table
from vsnd_hybrid.tools.bench.contenders import Contender, Unsupported
from vsnd_hybrid.tools.bench.daemon import last_word
from vsnd_hybrid.tools.bench.figures import FIGURES
from vsnd_hybrid.tools.bench.numbers import Line, Pace, Ratio, Spread, percentile
from vsnd_hybrid.tools.bench.paced import asked_frames
from vsnd_hybrid.tools.bench.result import Command, Entry, Measurement, Outcome, Result, machine, read, write
from vsnd_hybrid.tools.bench.scenario import Shape

# ---------------------------------------------------------------- arithmetic


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([3.0], 99, 3.0), ([1, 2, 3, 4, 5], 50, 3), ([5, 1, 4, 2], 50, 3), ([0, 10], 99, 9.9), ([1, 2], 100, 2)],
)
def test_a_percentile_lies_between_its_neighbours(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == pytest.approx(expected)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_spread_ends_with_the_largest() -> None:
    assert Spread.of(list(range(1001))) == (500, 990, 999, 1000)


def test_a_line_goes_through_its_points() -> None:
    assert Line.through([0, 1, 2], [1, 3, 5]) == pytest.approx((1, 2))


def test_an_even_clock_has_no_jitter_and_no_error() -> None:
    pace = Pace.of([10_000_000 * n for n in range(100)], [480] * 100, 48000)
    assert pace.intervals_us == [10_000.0] * 99
    assert max(pace.jitter_us) < 0.001
    assert pace.error_ppm == pytest.approx(0, abs=0.001)


def test_a_clock_that_runs_fast_is_told_in_millionths() -> None:
    pace = Pace.of([round(10_000_000 / 1.0002) * n for n in range(100)], [480] * 100, 48000)
    assert pace.error_ppm == pytest.approx(200, rel=0.01)


def test_one_message_that_is_late_is_jitter_of_that_one() -> None:
    times = [10_000_000 * n for n in range(100)]
    times[50] += 3_000_000
    pace = Pace.of(times, [480] * 100, 48000)
    assert max(pace.jitter_us) == pytest.approx(3000, rel=0.02)
    assert percentile(pace.jitter_us, 90) < 100


def test_messages_of_different_length_are_no_jitter() -> None:
    frames = [480, 960, 480, 240, 480]
    ends = [sum(frames[: n + 1]) * 1_000_000_000 // 48000 for n in range(5)]
    assert max(Pace.of(ends, frames, 48000).jitter_us) < 0.01


def test_too_few_messages_have_no_pace() -> None:
    with pytest.raises(ValueError, match="no messages came back"):
        Pace.of([], [], 48000)


def test_a_ratio_is_of_medians_and_has_the_range_of_the_pairs() -> None:
    assert Ratio.of([2.0, 4.0, 6.0], [1.0, 2.0, 4.0]) == (2.0, 1.5, 2.0)


def test_a_ratio_passes_over_repeats_that_failed() -> None:
    assert Ratio.of([None, 4.0], [1.0, 2.0]) == pytest.approx((4 / 1.5, 2.0, 4 / 1.5))
    assert Ratio.of([None, None], [1.0, 2.0]) is None
    assert Ratio.of([1.0], [0.0]) is None, "there is no multiple of nothing"


# ---------------------------------------------------------------- what the kernel says


def test_cpu_time_switches_threads_and_memory_of_a_process_are_read() -> None:
    code = "import time; [sum(range(100000)) for _ in range(20)]; print(flush=True); time.sleep(60)"
    with subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout is not None
            child.stdout.readline()
            seen = probe.snapshot([child.pid])
            memory = probe.memory([child.pid])
        finally:
            child.kill()
    assert seen.cpu_ns > 1_000_000
    assert seen.threads == 1
    assert memory is not None
    assert 0 < memory.private <= memory.rss
    assert memory.pss <= memory.rss


def test_children_are_found() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            parent.stdout.readline()
            found = probe.processes(parent.pid)
            assert len(found) == 2
            assert found[0] == parent.pid
        finally:
            for pid in reversed(probe.processes(parent.pid)):
                subprocess.run(["kill", str(pid)], check=False)


def test_a_process_that_is_gone_counts_nothing() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    seen = probe.snapshot([child.pid])
    assert (seen.cpu_ns, seen.voluntary, seen.threads) == (0, 0, 0)
    assert probe.memory([child.pid]) is None


def test_what_was_added_since_is_a_difference_but_for_the_threads() -> None:
    assert probe.Snapshot(9, 8, 7, 6, 5).since(probe.Snapshot(1, 1, 1, 1, 1)) == (8, 7, 6, 5, 5)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("", ""),
        ("starting\n no card \n\n", "no card"),
        (
            "thread 'main' panicked at src/x.rs:7:9:\nqueue too large\nstack backtrace:\n  0: rust_begin_unwind\nnote: Some details",
            "panic at x.rs:7:9: queue too large",
        ),
    ],
)
def test_a_daemon_that_ended_is_quoted_in_one_line(log: str, said: str) -> None:
    assert last_word(log) == said


# ---------------------------------------------------------------- contenders and scenarios


def test_a_command_has_its_places_filled_in() -> None:
    contender = Contender.parse("x= /opt/snd --socket={sock} -b {backend} '{ a }' {outputs}/{inputs}")
    assert contender.name == "x"
    argv = contender.argv(Path("/tmp/a b"), engine="unpaced", outputs=4, inputs=1)
    assert argv == ["/opt/snd", "--socket=/tmp/a b", "-b", "null", "{ a }", "4/1"]


def test_our_backends_have_names_of_their_own() -> None:
    argv = contenders.ours().argv(Path("/s"), engine="unpaced", outputs=1, inputs=1)
    assert argv[-6:] == ["--backend", "null,paced=false", "--outputs", "1", "--inputs", "1"]


def test_an_engine_that_others_do_not_have_is_not_asked_of_them() -> None:
    with pytest.raises(Unsupported, match="copied"):
        Contender("x", "snd {sock} {backend}").argv(Path("/s"), engine="copied", outputs=1, inputs=1)


def test_a_command_without_a_place_for_the_backend_is_taken_as_it_is() -> None:
    assert Contender("x", "snd {sock}").argv(Path("/s"), engine="copied", outputs=1, inputs=1) == ["snd", "/s"]


@pytest.mark.parametrize("text", ["snd {sock}", "x=snd", "=snd {sock}", "x=", "x=snd '{sock}"])
def test_a_command_that_makes_no_sense_is_one_line(text: str) -> None:
    with pytest.raises(ServiceError, match="--cmd"):
        Contender.parse(text)


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ServiceError, match="names must differ"):
        contenders.chosen(["x=snd {sock}", "x=other {sock}"])


def test_scenarios_have_names_of_their_own_and_figures_that_exist() -> None:
    every = catalogue.catalogue()
    assert len({s.name for s in every}) == len(every)
    assert all(s.figure in FIGURES for s in every)
    assert any(s.quick for s in every)


def test_scenarios_are_chosen_by_name_group_and_pattern() -> None:
    def names(*wanted: str, quick: bool = False) -> list[str]:
        return [s.name for s in catalogue.select(wanted, quick=quick)]

    assert names("idle", "control") == ["control", "idle"], "in the catalogue's order"
    assert set(names("daemons")) == {"daemons-1", "daemons-4", "daemons-16"}
    assert set(names("startup*")) == {"startup", "startup-pipewire"}
    assert len(names()) > len(names(quick=True)) > 3
    with pytest.raises(ServiceError, match="no scenario or group"):
        names("idle", "floods")


@pytest.mark.parametrize("engine", ["null", "pipewire"])
def test_streams_are_paced_in_every_shape_way_and_number(engine: str) -> None:
    every = {s.name: s for s in catalogue.catalogue()}
    for shape in ("480x4", "480x2", "1024x2", "128x4"):
        for way, (outputs, inputs) in {"out": (1, 0), "in": (0, 1), "both": (1, 1)}.items():
            for count, suffix in ((1, ""), (4, "-4"), (8, "-8")):
                scenario = every[f"{engine}-{shape}-{way}{suffix}"]
                asked = {"outputs": count * outputs, "inputs": count * inputs}
                assert asked.items() <= scenario.parameters.items()
                assert (scenario.outputs, scenario.inputs) == (max(1, asked["outputs"]), max(1, asked["inputs"]))
                assert (scenario.floor is not None) == (engine == "pipewire")


def test_floods_have_every_depth_with_every_feature() -> None:
    names = {s.name for s in catalogue.catalogue()}
    for depth in (1, 2, 16, 64):
        for how in ("direct", "indirect", "direct-noidx", "indirect-noidx"):
            assert f"flood-{depth}-{how}" in names


def test_what_takes_long_runs_only_if_it_is_named() -> None:
    asked = "null-128x4-both-8"
    for usual in ([], ["paced-null"]):
        names = {s.name for s in catalogue.select(usual, quick=False)}
        assert "null-480x4-both-8" in names
        assert asked not in names
    for wanted in (asked, "null-*-8"):
        assert asked in {s.name for s in catalogue.select([wanted], quick=False)}


def test_every_budget_is_measured_by_a_scenario_and_a_figure_that_exist() -> None:
    names = {s.name for s in catalogue.catalogue()}
    assert budgets.scenarios() <= names
    assert {s.name for s in catalogue.select(["budgets"], quick=False)} == budgets.scenarios()
    assert all(b.figure in FIGURES for b in budgets.BUDGETS)


@pytest.mark.parametrize(
    ("shape", "latency", "frames"),
    [(Shape(480, 4), "balanced", 512), (Shape(480, 4), "low", 480), (Shape(480, 2), "balanced", 480)],
)
def test_the_floor_asks_for_what_ours_asks_for(shape: Shape, latency: str, frames: int) -> None:
    assert asked_frames(shape, latency) == frames


def test_the_budgets_at_480x4_are_taken_where_both_wake_up_equally_often() -> None:
    limited = {b.scenario for b in budgets.BUDGETS if b.limit is not None and b.against and "480x4" in b.scenario}
    assert limited == {"pipewire-480x4-low-out"}
    (scenario,) = catalogue.select(["pipewire-480x4-low-out"], quick=False)
    argv = contenders.ours().argv(Path("/s"), engine=scenario.engine, outputs=1, inputs=1)
    assert "pipewire,latency=low" in argv
    assert scenario.floor is not None


# ---------------------------------------------------------------- the result


def entry(name: str, *values: float | None, key: str = "cpu_ns_per_buffer", error: str = "it hung") -> Entry:
    runs = [Measurement(values={key: v}) if v is not None else Measurement(error=error) for v in values]
    return Entry(contender=name, runs=runs, series={"interval_us": [1.0, 2.0, 3.0]} if runs else {})


#: It takes a second to find out.
here = cache(machine)


def result_of(*entries: Entry, scenario: str = "flood-64-indirect", figure: str = "cpu_ns_per_buffer") -> Result:
    outcome = Outcome(
        scenario=scenario, group="flood", title="a flood", engine="unpaced", figure=figure, parameters={"depth": 64},
        entries=list(entries),
    )  # fmt: skip
    return Result(
        version="0",
        when=time.time(),
        machine=here(),
        repeats=2,
        seconds=1,
        contenders=[Command(name=e.contender, command=f"{e.contender} {{sock}}") for e in entries],
        outcomes=[outcome],
    )


def test_a_result_is_the_same_when_it_is_read_again(tmp_path: Path) -> None:
    result = result_of(entry("ours", 1.0, None), entry("rival", 2.0, 3.0))
    write(result, tmp_path / "x.json")
    assert read(tmp_path / "x.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_what_is_not_in_the_format_is_refused(tmp_path: Path) -> None:
    write(result_of(entry("ours", 1.0)), tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text().replace('"repeats"', '"rounds"')
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(msgspec.ValidationError):
        read(tmp_path / "x.json")


def test_the_table_has_medians_ratios_with_their_spread_and_what_failed() -> None:
    result = result_of(entry("ours", 100.0, 200.0), entry("rival", 300.0, 400.0), entry("dead", None, None))
    (row,) = table.rows(result.outcomes[0])
    assert row == ("CPU a buffer", ["150 ns", "350 ns  ×2.33 (2.00-3.00)", "failed"])
    assert table.remarks(result.outcomes[0]) == ["dead: failed 2 of 2: it hung"]
    assert [e.contender for _, e in result.failures()] == ["dead"]


def test_what_a_contender_cannot_do_is_no_failure() -> None:
    dead = Entry(contender="rival", runs=[Measurement(error="it has no engine", unsupported=True)])
    result = result_of(entry("ours", 1.0), dead)
    assert table.rows(result.outcomes[0])[0].cells[1] == "n/a"
    assert table.remarks(result.outcomes[0]) == ["rival: it has no engine"]
    assert not list(result.failures())


def test_one_that_failed_everywhere_has_a_row_all_the_same() -> None:
    (row,) = table.rows(result_of(entry("ours", None)).outcomes[0])
    assert row.cells == ["failed"]


@pytest.mark.parametrize(("ours", "verdict"), [(39.0, "met"), (41.0, "MISSED")])
def test_a_budget_is_a_ratio_within_one_run(ours: float, verdict: str) -> None:
    lines = budgets.grid(result_of(entry("ours", ours), entry("rival", 100.0)))
    assert lines[1][-1] == verdict
    assert lines[1][3] == f"×{ours / 100:.2f}"


def test_a_line_without_a_limit_only_informs() -> None:
    entries = (entry("ours", 3.0, key="cpu_ms_per_s"), entry("pw-cat", 2.0, key="cpu_ms_per_s"))
    lines = budgets.grid(result_of(*entries, scenario="pipewire-480x4-out", figure="cpu_ms_per_s"))
    found = {line[0]: line[3:] for line in lines}
    assert found["the same, against pw-cat at that latency"] == ["×1.50", "(for information)", ""]


def test_a_budget_without_its_measure_is_left_open() -> None:
    assert budgets.grid(result_of(entry("ours", 1.0)))[1][-1] == "no rival"


def test_a_budget_without_a_rival_has_a_limit_of_its_own() -> None:
    result = result_of(entry("ours", 61.0, key="start_ms"), scenario="startup", figure="start_ms")
    assert budgets.grid(result)[1][-2:] == ["60.0 ms", "MISSED"]


def test_the_report_names_everybody_and_what_failed() -> None:
    result = result_of(entry("ours", 100.0), entry("rival", None))
    text = markdown.report(result, [Path("/x/ratios.png")])
    assert "`rival {sock}`" in text
    assert "* flood-64-indirect, rival: it hung" in text
    assert "![ratios](ratios.png)" in text
    assert "| CPU a buffer | 100 ns | failed |" in text


def test_what_a_wakeup_costs_here_is_told() -> None:
    result = result_of(entry("ours", 100.0))
    assert result.machine.wakeup_us > 0 and result.machine.signal_us > 0
    assert f"costs a thread {result.machine.wakeup_us:g} µs" in markdown.report(result, [])


def test_pictures_are_drawn_as_png_and_svg(tmp_path: Path) -> None:
    files = plots.draw(result_of(entry("ours", 100.0), entry("rival", 200.0, 250.0)), tmp_path)
    assert {file.name for file in files} == {"ratios.png", "interval.png"}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg"}


def test_what_is_no_multiple_of_anything_is_no_bar(tmp_path: Path) -> None:
    entries = (entry("ours", 0.1, key="latency_error_ms"), entry("rival", 0.2, key="latency_error_ms"))
    files = plots.draw(result_of(*entries, scenario="latency-480x4", figure="latency_error_ms"), tmp_path)
    assert {file.name for file in files} == {"interval.png"}


def test_nothing_to_compare_draws_nothing(tmp_path: Path) -> None:
    result = result_of(entry("ours", None))
    result.outcomes[0].entries[0].series.clear()
    assert plots.draw(result, tmp_path) == []
    assert not list(tmp_path.iterdir())
