"""The names of enum values, for people; in messages they are numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)

_START_OF_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def name_of(enum: _EnumTypeWrapper[V], value: V) -> str:
    """Return the name of a value without the prefix of its enum, such as `SUCCEEDED`.

    A value that this version of the client does not know, because the server is newer, is returned
    as its number.
    """
    known = enum.DESCRIPTOR.values_by_number.get(value)
    if known is None:
        return str(value)
    prefix = _START_OF_WORD.sub("_", enum.DESCRIPTOR.name).upper() + "_"
    return known.name.removeprefix(prefix)
