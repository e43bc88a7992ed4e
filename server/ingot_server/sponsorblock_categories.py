"""The categories of SponsorBlock's segments, and which of them INGOT_SPONSORBLOCK chooses."""

from __future__ import annotations

from typing import Final

# As yt-dlp names them, and wiki.sponsor.ajay.app/w/Types describes them.
CATEGORIES: Final = (
    *("sponsor", "selfpromo", "interaction", "intro", "outro", "preview", "hook", "filler"),
    *("music_offtopic", "poi_highlight", "chapter"),
)


def chosen_categories(text: str) -> list[str]:
    """Return the categories that `text` lists, separated by commas; `all` stands for all of them.

    Raises ValueError for a category that does not exist.
    """
    named = [part.strip() for part in text.split(",") if part.strip()]
    chosen = list(CATEGORIES) if "all" in named else named
    unknown = set(named) - {"all", *CATEGORIES}
    if unknown:
        raise ValueError(f"`{min(unknown)}` is not a category of SponsorBlock")
    return chosen
