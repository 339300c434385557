"""DataHandler: put and get data by coordinates while they are being processed and stored."""

from penstock.handler.data_handler import DataHandler
from penstock.handler.data_processor import DataProcessor
from penstock.handler.errors import DataDiscardedError, DataFailedError, DataTimeoutError

__all__ = ["DataDiscardedError", "DataFailedError", "DataHandler", "DataProcessor", "DataTimeoutError"]
