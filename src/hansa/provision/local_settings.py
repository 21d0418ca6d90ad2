"""What a machine says itself, against what its kit says: the project signs the kit, the machine is its owner's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.provision.identity import KitError, Role
from hansa.provision.project_values import MACHINE_SETTINGS, SITE_SETTINGS, Reader, machine_settings, site_settings

FILES: Mapping[Role, str] = {Role.CLIENT: "local/site.json", Role.SERVER: "local/server.json"}
_MOST_BYTES = 1 << 20


def with_local(settings: Mapping[str, Any], kit: Path, role: Role) -> dict[str, Any]:  # Any: JSON
    """A server's or a site's settings, those in its local file in the place of the kit's.

    The keys are those of project.yml: of a site all that it offers to jobs, of a server what it gives them of its disk.

    Raises:
        ConfigError: The file has a mistake in it.
    """
    file = kit / FILES[role]
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
        raise KitError('must be an object, as in {"job_disk_mb": 5000}', file=str(file))
    reader = Reader(content, str(file))
    if role is Role.SERVER:
        reader.check_keys(MACHINE_SETTINGS, (), ignored=[])
        return {**settings, **machine_settings(reader)}
    reader.check_keys(SITE_SETTINGS, (), ignored=[])
    own = site_settings(reader)
    if "enable_byoc" not in content:
        del own["allow_custom_code"]
    return {**settings, **own}
