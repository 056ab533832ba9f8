"""Works on whole tables."""


def run(df):
    return df.groupBy("x").count()
