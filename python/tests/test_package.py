"""What is found in a package, and why some of it cannot be used: `packages/odd_science` has every odd case."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from redpoll.package import scan as scanning
from redpoll.package.reach import Reach
from redpoll.package.sample import NotThere, Sample

PACKAGES = Path(__file__).parent / "packages"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("samples")
    candidate = [{"magpsf": m, "rb": r, "ra": 1.0} for m, r in [(17.0, 0.4), (19.0, 0.6), (18.5, 0.3)]]
    ztf = {
        "objectId": ["a", "b", "c"],
        "candidate": candidate,
        "cmagpsf": [[17.0], [19.0, 18.0], []],
        "name": ["g", "r", "i"],
        "night": [1, 1, 2],
    }
    pa.parquet.write_table(pa.table(ztf), folder / "ztf.parquet")
    lsst = {"diaSource": [{"psfFlux": 1.0}, {"psfFlux": -1.0}], "is_sso": [False, False]}
    pa.parquet.write_table(pa.table(lsst), folder / "lsst.parquet")
    return folder


@pytest.fixture(scope="module")
def entries(samples):
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(PACKAGES))
    here = [str(PACKAGES), str(Path(scanning.__file__).parents[2])]
    patch.setenv("PYTHONPATH", os.pathsep.join(here))
    try:
        found = scanning.scan("odd-science", "ztf", samples, timeout=60)
        return {(entry.function or entry.module): entry for entry in [*found, *_of_rubin(samples)]}
    finally:
        patch.undo()


def _of_rubin(samples):
    return [entry for entry in scanning.scan("odd_science", "lsst", samples, timeout=60) if entry.survey == "lsst"
            and "rubin" in entry.module]  # fmt: skip


def check(entry, state, reason):
    assert (entry.state, entry.reason) == (state, reason)


def test_decorated_functions_are_found_with_what_they_take_and_give(entries):
    one = entries["n_points"]
    check(one, "runs", "")
    assert (one.kind, one.returns, one.about) == ("pandas", "int", "Number of detections.")
    assert one.inputs == [{"name": "magpsf"}]
    row = entries["row_features"]
    check(row, "runs", "")
    assert (row.kind, row.returns) == ("row", "map<string,struct<mean:double>>")
    assert [one["name"] for one in row.inputs] == ["cmagpsf", "name"]


def test_a_default_makes_an_input_optional(entries):
    check(entries["with_model"], "runs", "")
    assert entries["with_model"].inputs == [{"name": "rb"}, {"name": "model", "optional": True}]


def test_a_filter_of_rubin_is_a_plain_function_with_the_name_of_its_folder(entries):
    check(entries["mine"], "runs", "")
    assert (entries["mine"].returns, entries["mine"].about, entries["mine"].survey) == ("boolean", "Flux above zero.", "lsst")
    assert "flux_of" not in entries


def test_a_function_of_our_own_decorator_is_found(entries):
    own = entries["of_a_night"]
    check(own, "runs", "")
    assert own.inputs == [
        {"name": "night", "type": "bigint", "key": True},
        {"name": "rb", "type": "double", "key": False},
    ]


def test_a_question_in_a_helper_is_told_with_its_place(entries):
    check(entries["asks_by_a_helper"], "no", "asks a network service: requests.get in odd_science.helpers.ask, line 9")


def test_a_message_from_inside_a_predicate_is_told(entries):
    place = "odd_science.ztf.filter_bright.filter.bright, line 18"
    check(entries["bright"], "no", f"sends messages: requests.post in {place}")
    check(entries["quiet"], "runs", "")


def test_a_question_that_no_reading_finds_is_found_by_running(entries):
    check(entries["hidden_question"], "no", "asks a network service: stars.example")


def test_what_ends_python_costs_only_itself(entries):
    check(entries["before"], "runs", "")
    check(entries["killed"], "no", "it crashes Python: SIGSEGV")
    check(entries["leaves"], "no", "it ends Python with exit code 3")
    check(entries["exits"], "no", "it fails on every sample alert: SystemExit: bye")
    check(entries["after"], "runs", "")
    check(entries["never_seen"], "no", "it ends Python with exit code 7")


def test_a_missing_package_is_named(entries):
    check(entries["needs_a_package"], "no", "missing package: `no_such_package`")
    check(entries["imports_late"], "no", "missing package: `tensorflux`")


def test_functions_that_fail_say_so(entries):
    check(entries["always_fails"], "no", "it fails on every sample alert: ValueError: nothing is good enough")
    check(entries["fails_on_some"], "runs", "it fails on 1 of 3 sample alerts: ValueError: too good")


def test_an_input_that_no_sample_has_is_not_tried(entries):
    check(entries["lacks_a_column"], "loads", "the sample alerts have no column `no_such_column`")
    assert entries["lacks_a_column"].returns == "int"


def test_what_is_no_function_of_columns_is_listed(entries):
    check(entries["inner"], "no", "it is made inside of a function that works on Spark DataFrames")
    check(entries["takes_anything"], "no", "it takes any number of columns (*columns)")
    assert entries["of_groups"].reason.startswith("it gets a DataFrame of each group: name its columns and keys")
    module = "odd_science.ztf.filter_bright.processor"
    reason = "it has no function of columns: it works on whole Spark DataFrames; write it in SQL"
    check(entries[module], "no", reason)
    assert entries["odd_science.broken.filter"].reason.startswith("its source cannot be read")


def test_a_package_that_is_not_there_is_told():
    with pytest.raises(SystemExit, match="no Python package `no_such_package`"):
        scanning.scan("no-such-package")


def test_a_function_that_does_not_come_back_is_ended(tmp_path, monkeypatch, samples):
    tmp_path.joinpath("slow_one.py").write_text(
        "from pyspark.sql.functions import pandas_udf\n@pandas_udf('int')\ndef it(rb):\n    while True: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(scanning.__file__).parents[2])]))
    (entry,) = scanning.scan("slow_one", "ztf", samples, timeout=3)
    check(entry, "no", "it does not come back within 3 s")


def test_what_a_function_reaches_is_followed_through_its_family_alone(monkeypatch, tmp_path):
    tmp_path.joinpath("fam_a.py").write_text("from fam_b import send\nimport json\ndef it(x):\n    json.dumps(x); send(x)\n")
    tmp_path.joinpath("fam_b.py").write_text("import smtplib\ndef send(x):\n    smtplib.SMTP('h').sendmail(x)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (effect,) = Reach("fam_a").effects("fam_a", "it")
    assert str(effect) == "sends messages: smtplib.SMTP in fam_b.send, line 3"


def test_names_are_columns_then_fields():
    table = pa.table({"jd": [1.0], "candidate": [{"jd": 2.0, "ra": 3.0}], "other": [{"dec": 4.0}], "third": [{"dec": 5.0}]})
    sample = Sample(table)
    assert sample.column("jd").to_pylist() == [1.0]
    assert sample.column("ra").to_pylist() == [3.0]
    with pytest.raises(NotThere, match="several fields `dec`, in other, third"):
        sample.column("dec")
    with pytest.raises(NotThere, match="no column `nothing`"):
        sample.column("nothing")


def test_histories_come_before_single_values_where_they_are_asked_for():
    sample = Sample(pa.table({"jd": [1.0], "cjd": [[0.5, 1.0]]}))
    assert sample.batch([{"name": "jd"}], histories=True)["jd"].to_pylist() == [[0.5, 1.0]]
    both = sample.batch([{"name": "jd"}, {"name": "cjd"}], histories=True)
    assert both["jd"].to_pylist() == [1.0]
