"""CPU of the three functions of fink-science by themselves: `functions.py ALERTS.parquet` prints microseconds per alert as JSON.

Run by `benches/micro` in the environment of the Spark side, without Spark: plain calls on 1,024 alerts at a time.
"""
import json
import sys
import time

import pyarrow.parquet
from fink_science.ztf.asteroids.processor import roid_catcher
from fink_science.ztf.nalerthist.processor import nalerthist
from fink_science.ztf.standardized_flux.processor import standardized_flux

BATCH = 1024
HISTORY = ["distnr", "magpsf", "sigmapsf", "magnr", "sigmagnr", "isdiffpos", "fid", "jd"]
ARGUMENTS = {
    roid_catcher: ["cjd", "cmagpsf", "ndethist", "sgscore1", "ssdistnr", "distpsnr1"],
    nalerthist: ["cmagpsf"],
    standardized_flux: ["candid", "objectId", *["c" + name for name in HISTORY]],
}


def main():
    table = pyarrow.parquet.read_table(sys.argv[1])
    batches = [table.slice(start, BATCH).to_pandas() for start in range(0, len(table), BATCH)]
    found = {}
    for function, names in ARGUMENTS.items():
        plain = function.func
        plain(*[batches[0][name].head(10) for name in names])  # imports what it imports when first called
        begun = time.process_time()
        for batch in batches:
            plain(*[batch[name] for name in names])
        found[function.func.__name__] = (time.process_time() - begun) * 1e6 / len(table)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
