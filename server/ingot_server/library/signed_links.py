"""Signed links that also fix the size of what is sent.

The SDK signs only the host. AWS Signature Version 4 covers every header that it lists, so a link
that lists Content-Length accepts one size: SeaweedFS, MinIO and AWS refuse another with 403, and a
body without that header with 403 or 411. They store nothing then, and nothing of a body that is cut
off. https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

_SIGNED: Final = "content-length;host"


def with_size(url: str, secret_key: str, size_bytes: int) -> str:
    """Return a signed link for PUT that accepts only a body of `size_bytes` bytes.

    `url` is the link as the SDK signs it. One without a signature is returned unchanged: that is a
    server without keys, which checks nothing.
    """
    parts = urlsplit(url)
    fields = dict(parse_qsl(parts.query, keep_blank_values=True))
    if fields.pop("X-Amz-Signature", None) is None:
        return url
    fields["X-Amz-SignedHeaders"] = _SIGNED
    query = urlencode(sorted(fields.items()), quote_via=quote, safe="-_.~")
    request = "\n".join(
        [
            "PUT",
            parts.path,
            query,
            f"content-length:{size_bytes}",
            f"host:{parts.netloc}",
            "",
            _SIGNED,
            "UNSIGNED-PAYLOAD",
        ]
    )
    scope = fields["X-Amz-Credential"].partition("/")[2]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{fields['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{secret_key}".encode()
    for word in scope.split("/"):  # the date, the region, the service and `aws4_request`
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return parts._replace(query=f"{query}&X-Amz-Signature={signature}").geturl()
