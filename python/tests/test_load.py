import pytest
from conftest import declaration

from redpoll.worker.load import LoadError, load

CODE = """
from redpoll import science_module

@science_module(inputs={"jd": "list<double>"}, returns="int")
def it(jd):
    "Counts."
    return jd.map(len)

def slope(x): ...
"""


def refused(directory, text, **changes):
    declared = {**declaration(directory, [("jd", "list<double>")], "int"), **changes}
    with pytest.raises(LoadError) as error:
        load(declared)
    assert text in str(error.value)


def test_a_misspelt_function_is_told_its_nearest_name(declare, tmp_path):
    declare(CODE, [("jd", "list<double>")], "int")
    refused(tmp_path, "`written` has no function `slop`: did you mean `slope`?", function="written:slop")


def test_a_misspelt_package_is_told_its_nearest_name(tmp_path):
    refused(
        tmp_path, "there is no Python module `json.decodr`: did you mean `json.decoder`?", function="json.decodr:it"
    )


def test_a_missing_package_is_named_with_the_remedy(tmp_path):
    tmp_path.joinpath("written.py").write_text("import no_such_package\n")
    refused(tmp_path, "add the package that has `no_such_package` to the module's requirements")


def test_a_module_that_raises_at_import_says_what(tmp_path):
    tmp_path.joinpath("written.py").write_text("raise OSError('no model file')\n")
    refused(tmp_path, "importing `written` failed with OSError: no model file")


def test_a_manifest_and_a_decorator_that_differ_are_refused(declare, tmp_path):
    declare(CODE, [("jd", "list<double>")], "int")
    refused(tmp_path, "the manifest's returns double are not what the decorator declares: int32", returns="double")
    refused(tmp_path, "the manifest's inputs jd double", inputs=[("jd", "double")])
    refused(tmp_path, "the manifest's kind arrow", kind="arrow")


def test_inputs_that_do_not_fit_the_parameters_are_refused(tmp_path):
    tmp_path.joinpath("written.py").write_text("def it(a, b): ...\n")
    refused(tmp_path, "1 inputs do not fit `written:it(a, b)`")


def test_a_spark_function_of_the_other_kind_is_refused(tmp_path):
    code = "from pyspark.sql.functions import udf\n@udf('int')\ndef it(jd): ...\n"
    tmp_path.joinpath("written.py").write_text(code)
    refused(tmp_path, 'the function is decorated for kind = "row"')


def test_two_surveys_may_have_files_of_one_name(tmp_path):
    for survey, value in (("ztf", 1), ("lsst", 2)):
        tmp_path.joinpath(survey).mkdir()
        tmp_path.joinpath(survey, "written.py").write_text(f"def it(x):\n    return {value}\n")
    loaded = [load(declaration(tmp_path / s, [("x", "int")], "int", name=f"{s}_it")) for s in ("ztf", "lsst")]
    assert [module.function(0) for module in loaded] == [1, 2]
