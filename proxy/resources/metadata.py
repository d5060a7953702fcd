"""Metadata that clients attach to stored things (https://platform.openai.com/docs/api-reference/metadata)."""

import orjson

from proxy.errors import InvalidBody

PAIRS, KEY_CHARS, VALUE_CHARS = 16, 64, 512


def metadata(raw: bytes) -> dict[str, str]:
    """The value of a `metadata` member, JSON; {} for null. Raises InvalidBody."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise InvalidBody("metadata is not in valid Unicode.", param="metadata") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidBody("metadata is an object of strings.", param="metadata")
    if len(value) > PAIRS:
        raise InvalidBody(f"metadata has at most {PAIRS} pairs.", param="metadata")
    checked: dict[str, str] = {}
    for key, each in value.items():
        if not isinstance(each, str):
            raise InvalidBody("Values of metadata are strings.", param="metadata")
        if len(key) > KEY_CHARS or len(each) > VALUE_CHARS:
            raise InvalidBody(
                f"Keys of metadata have at most {KEY_CHARS} characters, values {VALUE_CHARS}.", param="metadata"
            )
        checked[key] = each
    return checked
