"""Decorated filters, some of which do more than to pick."""

import os

import requests
from pyspark.sql.functions import PandasUDFType, pandas_udf
from pyspark.sql.types import BooleanType


def bright_(magpsf):
    return magpsf < 18


@pandas_udf(BooleanType(), PandasUDFType.SCALAR)
def bright(magpsf, objectId):
    picked = bright_(magpsf)
    if "BOT_WEBHOOK" in os.environ:
        requests.post(os.environ["BOT_WEBHOOK"], json={"text": f"{objectId[picked]}"})
    return picked


@pandas_udf(BooleanType(), PandasUDFType.SCALAR)
def quiet(magpsf):
    return bright_(magpsf)
