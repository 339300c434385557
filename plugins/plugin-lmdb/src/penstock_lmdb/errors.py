"""The errors of the object store, under the names and with the arguments that users of improv know."""

from __future__ import annotations

from typing import Any

from penstock import errors


class ObjectNotFoundError(errors.ObjectNotFoundError):
    """The store holds no object of this id or name."""

    def __init__(self, obj_id_or_name: Any, where: str = "") -> None:
        super().__init__(obj_id_or_name, where)
        self.obj_id_or_name = obj_id_or_name

    def __str__(self) -> str:
        where = f"{self.args[1]}: " if self.args[1] else ""
        return f"{where}holds no object with id or name {self.obj_id_or_name!r}"


class CannotGetObjectError(errors.CannotGetObjectError):
    """The store holds this object, but it cannot be given back."""

    def __init__(self, query: Any, where: str = "", why: str = "") -> None:
        super().__init__(query, where, why)
        self.query = query

    def __str__(self) -> str:
        where = f"{self.args[1]}: " if self.args[1] else ""
        why = f": {self.args[2]}" if self.args[2] else ""
        return f"{where}cannot get object {self.query!r}{why}"


class CannotConnectToStoreInterfaceError(errors.CannotConnectToStoreError):
    """The store cannot be opened."""

    def __init__(self, store_loc: Any, why: str = "") -> None:
        super().__init__(store_loc, why)
        self.store_loc = store_loc

    def __str__(self) -> str:
        why = f": {self.args[1]}" if self.args[1] else ""
        return f"cannot connect to the store at {str(self.store_loc)!r}{why}"
