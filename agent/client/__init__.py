"""The Python client of a running agent: `Client`, and `ClientError` for what goes wrong."""

from agent.client.client import Client
from agent.client.error import ClientError

__all__ = ["Client", "ClientError"]
