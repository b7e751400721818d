"""Bytes on a disk or a server, read a part at a time; nothing of them is run."""
