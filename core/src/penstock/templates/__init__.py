"""Names of files, keys and topics from templates, in which nothing that a record says can do harm."""

from penstock.templates.setting import is_template
from penstock.templates.template import Template

__all__ = ["Template", "is_template"]
