"""A script of another environment cannot be imported in this one."""

collect_ignore = ["write_with_allensdk.py"]
