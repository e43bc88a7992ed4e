"""What shows that a site does not accept the cookies that it got, in the words of yt-dlp.

Its extractors end the error of media that needs an account with how to pass cookies
(`InfoExtractor._login_hint`), although they have some. Those of YouTube and Instagram warn if a
response signs the account out.
"""

from __future__ import annotations

import re
from typing import Final

_SIGNED_OUT: Final = re.compile(r"account cookies are no longer valid")
_ASKS_TO_SIGN_IN: Final = re.compile(r"\bUse --cookies\b")


def signed_out(warning: str) -> bool:
    """Tell whether a warning says that the account of the cookies was signed out."""
    return _SIGNED_OUT.search(warning) is not None


def asks_to_sign_in(error: str) -> bool:
    """Tell whether an error asks for cookies."""
    return _ASKS_TO_SIGN_IN.search(error) is not None
