"""What `redpoll check` and `run` refuse before anything starts: place, what is wrong, nearest name, remedy."""

import json
import os
import time
import urllib.error
import urllib.request

from brokers import register, servers, topics
from gate import ROOT, SAMPLES, file, redpoll, run, settings

HEAD = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}' OPTIONS ('format' 'ztf');
CREATE EXTERNAL TABLE copy STORED AS DELTA LOCATION 'copy';
"""

TYPOS = """
CREATE VIEW good AS SELECT * FROM alerts WHERE candidate.magpfs < 18;
INSERT INTO copy SELECT objectID FROM alerts;
INSERT INTO copy SELECT nigth(candidate.jd) AS night FROM alerts;
"""

TYPOS_ELSEWHERE = """
INSERT INTO copi SELECT objectId FROM alerts;
INSERT INTO copy SELECT objectId FROM alrets;
INSERT INTO copy SELECT prv_candidates.magpfs AS past FROM alerts;
INSERT INTO copy SELECT roid_cacher(objectId) AS roid FROM alerts;
"""

# What a pipeline says, and what the answer must hold: what is wrong, then the remedy.
REFUSED = [
    ("an aggregate", "INSERT INTO copy SELECT count(*) AS n FROM alerts;", "aggregate", "archive"),
    ("GROUP BY", "INSERT INTO copy SELECT objectId, count(*) AS n FROM alerts GROUP BY objectId;", "aggregate", "archive"),
    ("DISTINCT", "INSERT INTO copy SELECT DISTINCT objectId FROM alerts;", "DISTINCT", "key"),
    ("LIMIT", "INSERT INTO copy SELECT objectId FROM alerts LIMIT 3;", "LIMIT", ""),
    ("ORDER BY", "INSERT INTO copy SELECT objectId FROM alerts ORDER BY objectId;", "ORDER BY", ""),
    ("a join", "INSERT INTO copy SELECT a.objectId FROM alerts a JOIN alerts b ON a.candid = b.candid;", "join", ""),
    ("a window", "INSERT INTO copy SELECT row_number() OVER (ORDER BY candid) AS n FROM alerts;", "window", ""),
    ("UNION", "INSERT INTO copy SELECT objectId FROM alerts UNION ALL SELECT objectId FROM alerts;", "UNION", ""),
    ("a value that a re-run would not give again", "INSERT INTO copy SELECT random() AS x FROM alerts;", "random", "id"),
    ("wrong types", "INSERT INTO copy SELECT objectId FROM alerts WHERE objectId > candidate;",
     "Cannot infer common argument type", "CAST(… AS …)"),
    ("a struct as a number", "INSERT INTO copy SELECT night(candidate) AS night FROM alerts;", "night", ""),
    ("fields of a number", "INSERT INTO copy SELECT candid.x AS x FROM alerts;", "'candid' has no fields", "candid"),
    ("two columns of one name", "INSERT INTO copy SELECT candid, objectId AS candid FROM alerts;", "candid", ""),
    ("a partition column that is not there",
     "CREATE EXTERNAL TABLE nights STORED AS DELTA PARTITIONED BY (night) LOCATION 'nights';\n"
     "INSERT INTO nights SELECT objectId FROM alerts;", "night", "SELECT has no column"),
    ("a row key that is not there",
     "CREATE EXTERNAL TABLE s STORED AS STORE LOCATION 'store:/s' OPTIONS ('row_key' '{objectid}');\n"
     "INSERT INTO s SELECT objectId FROM alerts;", "objectid", "did you mean 'objectId'"),
    ("a kind of table that is not there",
     "CREATE EXTERNAL TABLE p STORED AS PARQUET LOCATION 'p';\nINSERT INTO p SELECT objectId FROM alerts;", "PARQUET", "DELTA"),
    ("an option that is not there",
     "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS ('fromat' 'fink');\nINSERT INTO t SELECT objectId FROM alerts;",
     "fromat", "format"),
    ("WITH", "INSERT INTO copy WITH a AS (SELECT objectId FROM alerts) SELECT objectId FROM a;", "WITH", "CREATE VIEW"),
    ("a subquery", "INSERT INTO copy SELECT objectId FROM alerts WHERE candid IN (SELECT candid FROM alerts);",
     "a subquery in an expression", "redpoll sql"),
    ("a delivery that is not there",
     "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS ('delivery' 'once');\nINSERT INTO t SELECT objectId FROM alerts;",
     "delivery 'once'", "exactly-once"),
    ("a codec that is not there",
     "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS ('codec' 'zip');\nINSERT INTO t SELECT objectId FROM alerts;",
     "codec 'zip'", "deflate"),
    ("partitions of a topic",
     "CREATE EXTERNAL TABLE t STORED AS TOPIC PARTITIONED BY (objectId) LOCATION 't';\nINSERT INTO t SELECT objectId FROM alerts;",
     "PARTITIONED BY", "the option 'partition'"),
    ("an option of an archive",
     "CREATE EXTERNAL TABLE t STORED AS DELTA LOCATION 't' OPTIONS ('codec' 'zstd');\nINSERT INTO t SELECT objectId FROM alerts;",
     "no option 'codec'", "it has none"),
    ("two INSERTs of one table that disagree",
     "INSERT INTO copy SELECT objectId FROM alerts;\nINSERT INTO copy SELECT candid AS objectId FROM alerts;",
     "column 'objectId'", "cast it"),
    ("names that differ by case", "INSERT INTO copy SELECT objectId, candid AS objectid FROM alerts;", "differ by case", "AS"),
    ("a key that is not there",
     "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS ('key' 'objectID');\nINSERT INTO t SELECT objectId FROM alerts;",
     "option 'key'", "did you mean 'objectId'"),
    ("a statement that is no part of a pipeline", "DROP TABLE alerts;", "no place in a pipeline", "CREATE EXTERNAL TABLE"),
    ("SQL that does not parse", "INSERT INTO copy SELCT objectId FROM alerts;", "SELCT", ""),
]


def problems(folder, text, source, **variables):
    """What `check` finds, and how long it took."""
    checked = redpoll(folder, "check", file(folder, text), *settings({"source": source, **variables}), "--format", "json")
    return checked, json.loads(checked.out or '{"problems": []}')["problems"]


def typos(gate, folder):
    """Typos in one file: as many errors, each with line, column and nearest name, in under a second."""
    source = SAMPLES / "ztf/ztf_multi_3.avro"
    places = [
        (TYPOS, [("magpfs", "magpsf"), ("objectID", "objectId"), ("nigth", "night")]),
        (TYPOS_ELSEWHERE, [("copi", "copy"), ("alrets", "alerts"), ("magpfs", "magpsf"), ("roid_cacher", "roid_catcher")]),
    ]
    for typed, words in places:
        text = HEAD + typed
        checked, found = problems(folder, text, source)
        gate.equal("errors", len(found), len(words))
        gate.equal("exit code", checked.code, 1)
        gate.check(f"in under a second: {checked.seconds:.2f} s", checked.seconds < 1.0)
        lines = text.splitlines()
        for wrong, right in words:
            line = next(i for i, line in enumerate(lines, 1) if wrong in line)
            place = (line, lines[line - 1].index(wrong) + 1)
            hit = [p for p in found if wrong in p["message"]]
            where = hit and (hit[0]["line"], hit[0]["column"])
            gate.check(f"{wrong} at {place[0]}:{place[1]}, did you mean '{right}'?",
                       where == place and f"'{right}'" in hit[0]["remedy"], hit or found)
    ended = redpoll(folder, "run", file(folder, HEAD + TYPOS), *settings({"source": source}), "--available-now")
    gate.check("run refuses the file too", ended.code == 1 and ended.err.count("did you mean") == 3, ended.text)
    gate.check("and has written nothing", not (folder / "warehouse/copy").exists())


def refused(gate, folder):
    """What a stream cannot do, wrong types, and tables that cannot be: each refused with its remedy."""
    source = SAMPLES / "ztf/ztf_multi_3.avro"
    for what, statement, wrong, remedy in REFUSED:
        checked, found = problems(folder, HEAD + statement, source)
        text = " ".join(f"{p['message']} {p['remedy']}" for p in found)
        placed = all(p["line"] > 0 for p in found)
        gate.check(f"{what}: {text[:140]}", checked.code == 1 and len(found) == 1 and placed and wrong in text
                   and remedy in text, checked.text)


def not_there(gate, folder):
    """Sources and sinks that are not there."""
    insert = "INSERT INTO copy SELECT objectId FROM alerts;"
    kafka = HEAD.replace("'format' 'ztf'", "'format' 'ztf', 'request.timeout' '3s', 'retries' '0'")
    sample = SAMPLES / "ztf/ztf_multi_3.avro"
    schema = ROOT / "pipelines/ztf/schemas/alert.avsc"
    (folder / "night").mkdir()
    cases = [
        ("a file", HEAD + insert, sample.parent / "ztf_multi_4.avro", "ztf_multi_3.avro"),
        ("a folder", HEAD + insert, folder / "nihgt", "night"),
        ("a kind of store", HEAD + insert, "s4://bucket/night", "s3"),
        ("a bucket", HEAD.replace("'ztf'", f"'ztf', 'schema' '{schema}'") + insert, "s3://gate3-no-such-bucket/night",
         "gate3-no-such-bucket"),
        ("an archive's bucket", HEAD + "CREATE EXTERNAL TABLE far STORED AS DELTA LOCATION 's3://gate3-no-such-bucket/far';"
         "\nINSERT INTO far SELECT objectId FROM alerts;", sample, "gate3-no-such-bucket"),
        ("a topic", kafka + insert, f"kafka://{servers()}/gate3_no_such_topic", "gate3_no_such_topic"),
        ("a broker", kafka + insert, "kafka://127.0.0.1:1/alerts", "127.0.0.1:1"),
        ("a schema file", HEAD.replace("'ztf'", "'ztf', 'schema' 'no.avsc'") + insert, sample, "no.avsc"),
        ("a variable", HEAD.replace("${source}", "${source}${part}") + insert, sample, "--set part="),
        ("a format", HEAD.replace("'ztf'", "'zft'") + insert, sample, "ztf"),
        ("a registry", HEAD.replace("'ztf'", "'confluent'") + insert, sample, "registry"),
        ("a sink's topic", HEAD + f"CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 'kafka://{servers()}/gate3_no_such_sink';"
         "\nINSERT INTO t SELECT objectId FROM alerts;", sample, "the broker has no topic 'gate3_no_such_sink'"),
        ("a sink's broker", HEAD + "CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 'kafka://127.0.0.1:1/t' "
         "OPTIONS ('request.timeout' '3s', 'retries' '0');\nINSERT INTO t SELECT objectId FROM alerts;", sample, "127.0.0.1:1"),
    ]
    for what, text, source, named in cases:
        checked, found = problems(folder, text, source)
        told = " ".join(f"{p['message']} {p['remedy']}" for p in found)
        gate.check(f"{what} that is not there: {told[:140]}", checked.code == 1 and len(found) == 1 and named in told, checked.text)


STORED = """
CREATE EXTERNAL TABLE alerts STORED AS ALERTS LOCATION '${source}';
CREATE EXTERNAL TABLE copy STORED AS DELTA PARTITIONED BY (fid) LOCATION 'copy';
CREATE EXTERNAL TABLE objects STORED AS STORE LOCATION 'store:objects' OPTIONS ('row_key' '{objectId}');
INSERT INTO copy SELECT objectId, candid, candidate.fid AS fid FROM alerts;
INSERT INTO objects SELECT objectId, candid FROM alerts;
"""


def files(folder):
    """Every file and folder below, with its bytes."""
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def clashes(gate, folder):
    """Tables that are there and take no such rows; each is told before anything is made, and nothing is changed."""
    sample = SAMPLES / "ztf/ztf_multi_3.avro"
    (folder / "empty").mkdir()
    checked, _ = problems(folder / "empty", STORED, sample)
    gate.check("check is fine where nothing is", checked.code == 0, checked.text)
    gate.equal("and makes nothing", sorted(map(str, files(folder / "empty"))), ["pipeline.sql"])

    run(folder, STORED, source=sample)
    archive = files(folder / "warehouse/copy")
    changes = [
        ("another type", "candid, candidate", "objectId AS candid, candidate", ["column 'candid'", "cast it"]),
        ("another case", "candid, candidate", "candid AS Candid, candidate", ["'Candid'", "'candid'", "AS"]),
        ("other partitions", "(fid)", "(candid)", ["partitioned by", "fid", "write PARTITIONED BY as the table has it"]),
        ("another type in the store", "SELECT objectId, candid FROM", "SELECT objectId, objectId AS candid FROM",
         ["table 'objects'", "its column is i:candid Int64", "another name"]),
        ("another row key", "{objectId}", "{candid}", ["its row key is '{objectId}', not '{candid}'"]),
    ]
    for what, before, after, words in changes:
        assert before in STORED
        checked, found = problems(folder, STORED.replace(before, after), sample)
        told = " ".join(f"{p['message']} {p['remedy']}" for p in found)
        gate.check(f"{what}: {told[:140]}", checked.code == 1 and len(found) == 1 and all(word in told for word in words)
                   and found[0]["line"] > 1, checked.text)
    text = STORED
    for what, before, after, _ in changes:
        # Of those that change the same words, one.
        text = text if what == "another case" else text.replace(before, after)
    new = "CREATE EXTERNAL TABLE new STORED AS DELTA LOCATION 'new';\nINSERT INTO new SELECT objectId FROM alerts;"
    ended = redpoll(folder, "run", file(folder, text.replace("INSERT INTO copy", f"{new}\nINSERT INTO copy", 1)),
                    *settings({"source": sample}), "--available-now", "--name", "other")
    gate.check("run tells them all at once", ended.code == 1 and "4 problems" in ended.err, ended.text)
    gate.check("and makes no table before it refuses", not (folder / "warehouse/new").exists()
               and files(folder / "warehouse/copy") == archive)

    log = folder / "warehouse/copy/_delta_log/00000000000000000000.json"
    log.write_text("no log")
    checked, found = problems(folder, STORED, sample)
    gate.check("an archive that cannot be opened", checked.code == 1 and len(found) == 1
               and "warehouse/copy" in found[0]["message"], checked.text)


def registries(gate, folder):
    """A registry that is away, or has schemas that the topic's is not compatible with."""
    sample = SAMPLES / "ztf/ztf_multi_3.avro"
    with topics("registered") as [topic]:
        table = HEAD + (f"CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 'kafka://{servers()}/{topic}' "
                        "OPTIONS ('format' 'confluent', 'registry' 'REGISTRY');\n"
                        "INSERT INTO t SELECT objectId, candid FROM alerts;")
        registry = os.environ["SCHEMA_REGISTRY_URL"]
        checked, found = problems(folder, table.replace("REGISTRY", registry), sample)
        gate.check("a subject that is new", checked.code == 0, checked.text)
        versions = of_registry(registry, f"subjects/{topic}-value/versions")
        gate.check("nothing is registered by check", versions is None, versions)
        checked, found = problems(folder, table.replace("REGISTRY", "http://127.0.0.1:1"), sample)
        told = " ".join(p["message"] for p in found)
        gate.check(f"a registry that is away: {told[:140]}", len(found) == 1 and "http://127.0.0.1:1" in told, checked.text)
        other = {"type": "record", "name": "alert", "fields": [{"name": "objectId", "type": "long"}]}
        register(registry, f"{topic}-value", other)
        of_registry(registry, f"config/{topic}-value", {"compatibility": "FULL"})
        checked, found = problems(folder, table.replace("REGISTRY", registry), sample)
        told = " ".join(p["message"] for p in found)
        gate.check(f"schemas that are not compatible: {told[:140]}", len(found) == 1 and f"{topic}-value" in told
                   and "compatible" in told, checked.text)


def of_registry(registry, path, body=None):
    """An answer of the registry, or None if there is no such thing; with a body, what is put there."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{registry}/{path}", data, {"Content-Type": "application/vnd.schemaregistry.v1+json"},
                                     method="GET" if body is None else "PUT")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def warned(gate, folder):
    """What is allowed but seldom meant is told by check and by run, which both go on."""
    sample = SAMPLES / "ztf/ztf_multi_3.avro"
    text = HEAD + """
CREATE EXTERNAL TABLE s STORED AS STORE LOCATION 'store:s' OPTIONS ('row_key' '{objectId}');
CREATE EXTERNAL TABLE t STORED AS TOPIC LOCATION 't' OPTIONS ('delivery' 'at-least-once');
INSERT INTO s SELECT objectId, candid, candidate FROM alerts;
INSERT INTO t SELECT objectId FROM alerts;
"""
    words = ["column 'candidate.candid' is left out, since 'candid' has its name", "option 'delivery' means nothing"]
    checked = redpoll(folder, "check", file(folder, text), *settings({"source": sample}), "--format", "json")
    told = " ".join(f"{warning['message']} {warning['remedy']}" for warning in json.loads(checked.out)["warnings"])
    gate.check("check warns", checked.code == 0 and all(word in told for word in words), checked.text)
    ended = run(folder, text, source=sample)
    gate.check("run warns", all(word in ended.err for word in words), ended.text)


def modules(gate, folder):
    """A module that is not installed is refused; with science off the same file needs none."""
    source = folder / "night"
    made = redpoll(folder, "simulate", "--survey", "lsst", "--to", source, "--count", 3)
    assert made.code == 0, made.text
    (folder / "none").mkdir()
    for survey, name in (("ztf", "roid_catcher"), ("lsst", "flux_statistics")):
        night = ROOT / f"pipelines/{survey}/night.sql"
        given = source if survey == "lsst" else SAMPLES / "ztf/ztf_multi_3.avro"
        checked = redpoll(folder, "check", night, "--set", f"source={given}", "--modules", folder / "none")
        gate.check(f"{survey}: without its modules", checked.code == 1 and f"'{name}'" in checked.text, checked.text)
        begun = time.monotonic()
        checked = redpoll(folder, "check", night, "--set", f"source={given}", "--set", "science=off")
        gate.check(f"{survey}: science=off is right, {time.monotonic() - begun:.1f} s", checked.code == 0, checked.text)


PROOFS = [typos, refused, not_there, clashes, registries, warned, modules]
