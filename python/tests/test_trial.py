import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import redpoll
from redpoll import science_module

ALERTS = pa.Table.from_pylist(
    [
        {
            "objectId": f"ZTF{i}",
            "candid": 1000 + i,
            "candidate": {"magpsf": 18.0 + i / 10, "fid": 1},
            "prv_candidates": [{"magpsf": 17.0, "fid": 1}, {"magpsf": None, "fid": 2}] if i % 2 else None,
        }
        for i in range(50)
    ]
)


@science_module(inputs={"magpsf": "list<float>", "fid": "int"}, returns="double")
def faintest(magpsf, fid):
    """Faintest magnitude [mag]."""
    if (magpsf.str[-1] > 22.8).any():
        raise ValueError("too faint")
    return magpsf.apply(np.nanmax)


def test_a_function_is_run_on_histories_and_summed_up():
    trial = redpoll.test(faintest, ALERTS)
    assert trial.values.to_pylist()[:2] == pytest.approx([18.0, 18.1])
    assert trial.values.null_count == 1
    assert trial.exceptions() == [("ValueError: too faint", 1, [1049])]
    text = repr(trial)
    assert "50, 1 null, 1 failed" in text
    assert "1 × ValueError: too faint: 1049" in text
    assert "type     double" in text
    assert text.count("│") == 12


def test_a_notebook_gets_a_table_with_what_html_would_take_for_marks_escaped():
    @science_module(inputs={"fid": "int"}, returns="string", kind="row")
    def marked(fid):
        return "<b>"

    shown = redpoll.test(marked, ALERTS)._repr_html_()
    assert "&lt;b&gt;" in shown and "<b>marked</b>" in shown and "bytes per alert" in shown


@science_module(inputs={"fid": "int", "magpsf": "float"}, returns="int", kind="grouped", keys=["fid"])
def alerts_of_band(frame):
    return pd.Series([len(frame)])


def test_a_group_is_not_cut():
    inputs = {"fid": "candidate.fid", "magpsf": "candidate.magpsf"}
    trial = redpoll.test(alerts_of_band, ALERTS, inputs=inputs)
    assert trial.failures == [] and set(trial.values.to_pylist()) == {50}


def test_inputs_may_be_paths_or_values_and_a_wrong_one_is_told_its_nearest():
    @science_module(inputs={"mag": "double"}, returns="double")
    def twice(mag):
        return mag * 2

    assert redpoll.test(twice, ALERTS, inputs={"mag": "candidate.magpsf"}).values[1].as_py() == pytest.approx(36.2)
    assert redpoll.test(twice, ALERTS, inputs={"mag": np.ones(50)}).values[1].as_py() == 2.0
    with pytest.raises(KeyError, match="did you mean `magpsf`"):
        redpoll.test(twice, ALERTS, inputs={"mag": "candidate.magpfs"})
    with pytest.raises(KeyError, match="no column for the input `mag`: did you mean `magpsf`"):
        redpoll.test(twice, ALERTS)
    with pytest.raises(KeyError, match="no input magg; it has mag"):
        redpoll.test(twice, ALERTS, inputs={"magg": "candidate.magpsf"})


def test_rows_that_differ_from_before_are_named():
    @science_module(inputs={"magpsf": "double"}, returns="double")
    def old(magpsf):
        return magpsf

    @science_module(inputs={"magpsf": "double"}, returns="double")
    def new(magpsf):
        return magpsf.where(magpsf < 22.8, 0.0)

    trial = redpoll.test(new, ALERTS, against=old)
    assert trial.differing == [(1048, pytest.approx(22.8), 0.0), (1049, pytest.approx(22.9), 0.0)]
    assert "2 of 50 rows differ" in repr(trial)
    assert redpoll.test(old, ALERTS, against="candidate.magpsf").differing == []


def test_a_struct_is_drawn_field_by_field_and_nan_is_equal_to_nan():
    @science_module(inputs={"magpsf": "double"}, returns="struct<n: int, mag: double>", kind="arrow")
    def both(magpsf):
        return pa.StructArray.from_arrays([pa.array([1] * len(magpsf), pa.int32()), magpsf], names=["n", "mag"])

    trial = redpoll.test(both, ALERTS)
    assert [name for name, _ in trial.parts()] == ["n", "mag"]


def test_files_and_frames_are_alerts_too(tmp_path):
    pa.parquet.write_table(ALERTS, tmp_path / "night.parquet")
    assert len(redpoll.test(faintest, tmp_path).values) == 50
    frame = pd.DataFrame({"magpsf": [[1.0, 2.0]], "fid": [1]})
    assert redpoll.test(faintest, frame).values.to_pylist() == [2.0]
    with pytest.raises(FileNotFoundError, match=r"no .parquet or .avro"):
        redpoll.test(faintest, tmp_path / "night")


def test_a_function_that_is_not_declared_is_told_how():
    with pytest.raises(TypeError, match="put @redpoll.science_module"):
        redpoll.test(len, ALERTS)
