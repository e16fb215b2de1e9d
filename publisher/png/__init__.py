"""PNG of maps of ids, written and read as runs: no pixel is ever unpacked. Pure."""
