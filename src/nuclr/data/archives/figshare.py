"""Files and licence of a figshare article, from its public API (https://docs.figshare.com)."""

from __future__ import annotations

from nuclr.data.archives.download import Fetcher, Remote
from nuclr.errors import DownloadError


def files_of(article: int, server: str, fetcher: Fetcher) -> list[Remote]:
    """Return all files of an article with their sizes and hashes.

    Raises
    ------
    DownloadError
        If the server does not answer.
    """
    found: list[Remote] = []
    page = 1
    while True:  # without page_size, a page has ten files
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


def licence_of(article: int, server: str, fetcher: Fetcher) -> str:
    """Return the licence of an article.

    Raises
    ------
    DownloadError
        If the server states none.
    """
    about = fetcher.json(f"{server}/articles/{article}")
    try:
        licence = about["license"]
        return f"{licence['name']} ({licence['url']}), says figshare article {article}"
    except (KeyError, TypeError):
        raise DownloadError(f"{server}: article {article} states no licence") from None
