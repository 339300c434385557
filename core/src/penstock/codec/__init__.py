"""A record as bytes and back: one format for stores, links and dead letters, and never pickle."""

from penstock.codec.frame import decode, decode_parts, encode, encode_bytes, encode_into, encoded_size

__all__ = ["decode", "decode_parts", "encode", "encode_bytes", "encode_into", "encoded_size"]
