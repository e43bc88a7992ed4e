"""Signed links that also fix headers of what is sent.

The SDK signs only the host. AWS Signature Version 4 covers every header that it lists, so a link
that lists Content-Length accepts one size: SeaweedFS, MinIO and AWS refuse another with 403, and a
body without that header with 403 or 411. They store nothing then, and nothing of a body that is cut
off. Headers that begin with `x-amz-` must be signed: SeaweedFS and AWS refuse others.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from minio.credentials.credentials import Credentials


def with_headers(url: str, keys: Credentials, headers: Mapping[str, str]) -> str:
    """Return a signed link for PUT that accepts only requests with these headers.

    `url` is the link as the SDK signs it, perhaps by keys that were renewed since.
    """
    parts = urlsplit(url)
    fields = dict(parse_qsl(parts.query, keep_blank_values=True))
    del fields["X-Amz-Signature"]
    scope = fields["X-Amz-Credential"].partition("/")[2]
    fields["X-Amz-Credential"] = f"{keys.access_key}/{scope}"
    if keys.session_token:
        fields["X-Amz-Security-Token"] = keys.session_token
    signed = {name.lower(): value for name, value in headers.items()} | {"host": parts.netloc}
    names = ";".join(sorted(signed))
    fields["X-Amz-SignedHeaders"] = names
    query = urlencode(sorted(fields.items()), quote_via=quote, safe="-_.~")
    request = "\n".join(
        [
            "PUT",
            parts.path,
            query,
            *(f"{name}:{value}" for name, value in sorted(signed.items())),
            "",
            names,
            "UNSIGNED-PAYLOAD",
        ]
    )
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{fields['X-Amz-Date']}\n{scope}\n{digest}"
    key = f"AWS4{keys.secret_key}".encode()
    for word in scope.split("/"):  # the date, the region, the service and `aws4_request`
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return parts._replace(query=f"{query}&X-Amz-Signature={signature}").geturl()
