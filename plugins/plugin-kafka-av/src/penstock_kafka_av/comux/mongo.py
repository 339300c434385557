"""MongoConnect: reads the ids of cameras from a collection in MongoDB."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from penstock.arguments import checks_arguments
from penstock.errors import ComponentLoadError, SourceError


@checks_arguments
class MongoConnect:
    """Read camera ids from a collection. It connects on first use, and needs `penstock-kafka-av[mongo]`.

    Args:
        uri: "mongodb://host:port".
        database: Name of the database.
        collection: Name of the collection.
        field: Name of the field with the camera's id.
        query: Filter of the documents; all by default.
        timeout_s: Seconds to wait for the server.
    """

    @checks_arguments
    def __init__(
        self,
        uri: str = "mongodb://127.0.0.1:27017",
        database: str = "comux",
        collection: str = "cameras",
        *,
        field: str = "cam_id",
        query: dict[str, Any] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._uri = uri
        self._database = database
        self._collection = collection
        self._field = field
        self._query = query or {}
        self._timeout_s = timeout_s
        self._client: Any = None
        self.data: list[dict[str, Any]] = []

    def connect(self) -> MongoConnect:
        """Connect to the server; no-op if connected.

        Raises:
            SourceError: the server does not answer; the message has no password.
            ComponentLoadError: pymongo is not installed.
        """
        if self._client is not None:
            return self
        try:
            import pymongo
            import pymongo.errors
        except ImportError as error:
            raise ComponentLoadError("MongoConnect needs pymongo: install penstock-kafka-av[mongo]") from error
        try:
            client: Any = pymongo.MongoClient(self._uri, serverSelectionTimeoutMS=round(self._timeout_s * 1000))
        except (pymongo.errors.PyMongoError, ValueError) as error:
            raise SourceError(f"MongoConnect: the uri is not valid: {type(error).__name__}", retryable=False) from None
        try:
            client.admin.command("ping")
        except pymongo.errors.PyMongoError as error:
            client.close()
            place = self._uri.rpartition("@")[2]
            raise SourceError(f"MongoConnect: {place} does not answer: {error}") from error
        self._client = client
        return self

    def fetch(self) -> list[dict[str, Any]]:
        """Read the documents, and return them. Raises SourceError."""
        import pymongo.errors

        self.connect()
        try:
            self.data = list(self._client[self._database][self._collection].find(self._query))
        except pymongo.errors.PyMongoError as error:
            raise SourceError(f"MongoConnect: {self._database}.{self._collection} cannot be read: {error}") from error
        return self.data

    def ret_cam_ids(self) -> list[str]:
        """Return the current ids of all cameras, each once; documents without an id in the field are left out."""
        found = [each.get(self._field) for each in self.fetch()]
        ids = [str(each).strip() for each in found if each is not None and not isinstance(each, bool | list | dict)]
        return list(dict.fromkeys(each for each in ids if each))

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> MongoConnect:
        """Connect."""
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()
