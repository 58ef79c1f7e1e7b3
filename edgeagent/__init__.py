"""edgeagent: one serverless computer made of Jetson boards, edge servers, cloud machines and satellites."""

__version__ = "0.1.0"
__all__ = ["__version__"]
