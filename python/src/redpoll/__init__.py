"""Science modules for Redpoll."""

from redpoll.sdk import Declaration, science_module

__all__ = ["Declaration", "science_module", "test", "__version__"]
__version__ = "0.1.0"


def __getattr__(name):
    # A worker imports this package too, and needs nothing of what helps authors.
    if name == "test":
        from redpoll.author.trial import test

        return test
    raise AttributeError(f"module `redpoll` has no attribute `{name}`")
