"""Files of a figshare article, by its public interface (https://docs.figshare.com, articles/{id}/files)."""

from __future__ import annotations

from nuclr.data.download import Fetcher, Remote


def files_of(article: int, server: str, fetcher: Fetcher) -> list[Remote]:
    """List all files of an article with their sizes and hashes.

    Raises
    ------
    DownloadError
        If the server does not say.
    """
    found: list[Remote] = []
    page = 1
    while True:  # without page_size there are ten on a page
        listed = fetcher.json(f"{server}/articles/{article}/files", page=page, page_size=100)
        found += [
            Remote(
                url=entry["download_url"],
                name=entry["name"].replace("/", "_"),
                size=int(entry["size"]),
                digest=f"md5:{md5}"
                if (md5 := entry.get("computed_md5") or entry.get("supplied_md5"))
                else None,
            )
            for entry in listed
        ]
        if len(listed) < 100:
            return found
        page += 1
