//! Bytes and values: the only place that knows the encoding. Total on any input.
