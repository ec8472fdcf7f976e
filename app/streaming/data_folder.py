"""The folder of the embedded store: the configured one, or one in memory when the configured folder cannot be written.

Knows nothing of what is stored in it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import disk
from app.processes import folders

log = logging.getLogger(__name__)

FREE = 2**20  # bytes that must be free for a folder in memory


@contextmanager
def writable(wanted: Path) -> Iterator[tuple[Path, int | None]]:
    """A folder that can be written, and the most bytes that may be used in it: None for the `wanted` folder, which has no limit.

    Raises NoRoom when no folder has enough free space.
    """
    from app.stores.files import MAP_SIZE, room  # here: the import takes memory that other stores do not need

    try:
        disk.prove(wanted, room=room(wanted))
    except OSError as error:
        with folders.shared("streams", room=FREE) as folder:
            most = min(MAP_SIZE, folders.free(folder) // 2**13 * 2**12)  # half of it, in whole pages: others share it
            log.warning(
                "RECURVE_DATA_DIR=%s cannot be written (%s): streams are kept in %s, up to %g MiB, and lost when the service ends.",
                wanted,
                error.strerror,
                "memory" if folder.parent == folders.MEMORY else folder.parent,
                round(most / 2**20, 1),
            )
            yield folder, most
    else:
        yield wanted, None
