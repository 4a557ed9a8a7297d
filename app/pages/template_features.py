"""The features that templates of mails and pages belong to."""

from pathlib import PurePath

from ..settings import current
from ..settings.features import by_feature


def feature_of(template: str) -> str:
    """Return the setting that a mail or page needs; empty if it needs none."""
    name = PurePath(template).name
    beginnings = by_feature("templates").items()
    return next((setting for setting, names in beginnings if name.startswith(tuple(names))), "")


def is_enabled(template: str) -> bool:
    """True if the settings let this mail go out, or this page be shown."""
    feature = feature_of(template)
    return not feature or bool(getattr(current(), feature))
