"""One file per data set: how its recordings are found and read."""
