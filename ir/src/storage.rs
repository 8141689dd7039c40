//! What the bytes of a storage format stand for.
