"""Call a Hotshoe server: `Client` blocks, `AsyncClient` awaits; operators have an `AdminClient` of each kind.

All raise the errors of `hotshoe.adapter.errors`.

    with Client("127.0.0.1:50051") as client:
        answer = client.generate("My parcel never came.", adapter="acme/support@prod")
        print(answer.text, answer.resolved)
"""

from hotshoe.client.admin import AdminClient
from hotshoe.client.aio import AsyncClient
from hotshoe.client.aio_admin import AsyncAdminClient
from hotshoe.client.connection import Tls
from hotshoe.client.retry import Retry
from hotshoe.client.sync import Client

__all__ = ["AdminClient", "AsyncAdminClient", "AsyncClient", "Client", "Retry", "Tls"]
