"""What a site says itself, against what its kit says: the kit is signed by the project, the machine is the site's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.provision.identity import KitError
from hansa.provision.project_values import SITE_SETTINGS, Reader, site_settings

FILE = "local/site.json"
_MOST_BYTES = 1 << 20


def with_local(settings: Mapping[str, Any], kit: Path) -> dict[str, Any]:  # Any: JSON
    """A site's settings, those in `local/site.json` in the place of the kit's; the keys are those of project.yml.

    Raises:
        ConfigError: The file has a mistake in it.
    """
    file = kit / FILE
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(_MOST_BYTES))
    except FileNotFoundError:
        return dict(settings)
    except OSError as error:
        raise KitError(f"cannot be read: {error.strerror}", file=str(file)) from None
    except (ValueError, RecursionError) as error:
        raise KitError(f"is no JSON: {error}", file=str(file)) from None
    if not isinstance(content, dict):
        raise KitError('must be an object, as in {"max_jobs": 1}', file=str(file))
    reader = Reader(content, str(file))
    reader.check_keys(SITE_SETTINGS, (), ignored=[])
    own = site_settings(reader)
    if "enable_byoc" not in content:
        del own["allow_custom_code"]
    return {**settings, **own}
