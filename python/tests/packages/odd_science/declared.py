from redpoll import science_module


@science_module(inputs={"night": "bigint", "rb": float}, returns="int", kind="grouped", keys=["night"])
def of_a_night(frame):
    """How many."""
    return [len(frame)]
