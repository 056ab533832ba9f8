"""Science modules for Redpoll."""

from redpoll.sdk import Declaration, science_module

__all__ = ["Declaration", "science_module", "__version__"]
__version__ = "0.1.0"
