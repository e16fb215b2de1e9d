"""
Secrets stay out of what is written: log lines of the libraries below us, and words of servers.

botocore logs requests with their session token, and answers whole, at level DEBUG. Whoever turns
that on to look for a fault sends the log to others.
"""

from __future__ import annotations

import logging
import re
import traceback
from urllib.parse import quote

_SHOWN = "[hidden]"
_LOUD = ("boto3", "botocore", "s3transfer", "urllib3")  # whose loggers say what is sent
_LEAST = 8  # characters: what is shorter is no secret, and would hide half of each line

_secrets: set[str] = set()
_PATTERNS = (
    re.compile(r"(?<=://)[^/\s:@'\"]*:[^/\s@'\"]*(?=@)"),  # user and password in an address
    re.compile(
        r"(?i)(?<=secretaccesskey>)[^<]+|(?<=sessiontoken>)[^<]+"
        r"|(?<=x-amz-security-token[:=])[^\s&'\"]+|(?<=x-amz-security-token': b')[^']+"
        r"|(?<=signature[:=])[0-9a-f]{64}|(?<= credential=)[^/\s]+"
    ),
    re.compile(r"(?i)(?<=\"(?:secretkey)\":\")[^\"]+|(?<=\"accesstoken\":\")[^\"]+"),
)


def hide(*secrets: str | None) -> None:
    """Show these no more, in any log line of the libraries below us; cheap where they are known."""
    new = {s for s in secrets if s and len(s) >= _LEAST}
    if secrets and new <= _secrets:
        return
    _secrets.update(new, (quote(s, safe="") for s in new))
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(_LOUD):
            logging.getLogger(name).addFilter(_filter)  # adds it once


def redacted(text: str) -> str:
    """A text without what was hidden, and without what looks like a secret of AWS."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _SHOWN)
    for pattern in _PATTERNS:
        text = pattern.sub(_SHOWN, text)
    return text


class _Redacts(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redacted("".join(traceback.format_exception(record.exc_info[1])))
        return True


_filter = _Redacts()
