"""Write where the NWB files of Allen Visual Coding sessions are: a table of session and url.

Runs in the environment of allensdk (allensdk.txt, or allensdk.yaml), which nuclr cannot share.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

import requests
from allensdk.brain_observatory.ecephys.ecephys_project_cache import EcephysProjectCache

TRIES = 6


def main() -> None:
    """Ask the warehouse for each session."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sessions", nargs="+", type=int)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--scheme", default="http")
    parser.add_argument("--host", default="api.brain-map.org")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = EcephysProjectCache.from_warehouse(
            scheme=options.scheme, host=options.host, manifest=Path(folder) / "manifest.json"
        )
        engine = cache.fetch_api.rma_engine
        # The address in place of the content: nuclr fetches it so that it can go on after a break.
        engine.stream = engine._build_url
        lines = [f"{session}\t{ask(cache, session)}" for session in options.sessions]
    partial = options.output.with_name(f".partial-{options.output.name}")
    partial.write_text("\n".join(["session\turl", *lines, ""]))
    partial.replace(options.output)


def ask(cache: EcephysProjectCache, session: int) -> str:
    """Address of a session's file; asks again while the warehouse does not answer."""
    for tried in range(1, TRIES + 1):
        try:
            return cache.fetch_api.get_session_data(session)
        # A warehouse out of order answers with a page that is not JSON.
        except (requests.RequestException, KeyError, ValueError) as error:
            if tried == TRIES:
                raise SystemExit(
                    f"allen_links: error: session {session}: the warehouse says: {error}"
                ) from None
            logging.warning("session %d: %s; again in %d s", session, error, 2**tried)
            time.sleep(2**tried)
    raise AssertionError


if __name__ == "__main__":
    main()
