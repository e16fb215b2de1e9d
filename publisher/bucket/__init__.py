"""The verbs upon a bucket: push, pull, compare, maintain. docs/bucket.md tells the protocol."""
