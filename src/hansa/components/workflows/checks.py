"""What the constructors of workflows refuse."""

from __future__ import annotations


def check_ints(*, at_least: int = 0, **arguments: object) -> None:
    """Refuse arguments that are no int, or too small.

    Raises:
        TypeError: Not an int; a float is none.
        ValueError: Too small.
    """
    for name, value in arguments.items():
        if not isinstance(value, int):
            raise TypeError(f"{name} must be int but got {type(value)}")
        if value < at_least:
            raise ValueError(f"{name} must be >= {at_least}, but got {value}")


def check_strs(**arguments: object) -> None:
    """Refuse arguments that are no str.

    Raises:
        TypeError: Not a str.
    """
    for name, value in arguments.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} must be str but got {type(value)}")
