"""Names of files, keys and topics from templates, safe against the content of records."""

from penstock.templates.setting import is_template
from penstock.templates.template import Template

__all__ = ["Template", "is_template"]
