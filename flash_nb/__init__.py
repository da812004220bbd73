"""flash_nb: run notebook cells and functions on serverless GPUs and CPUs."""

__version__ = "0.1.0"
