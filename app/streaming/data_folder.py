"""Where the embedded store is kept: in the folder that is set, or in memory where that cannot be written.

Knows nothing of what is kept there.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app import disk
from app.processes import folders

log = logging.getLogger(__name__)

FREE = 2**20  # bytes that have to be free where it is kept in memory


@contextmanager
def writable(wanted: Path) -> Iterator[tuple[Path, int | None]]:
    """A folder that can be written; and how many bytes may be taken in it, where it is not the one that is wanted.

    NoRoom: there is none.
    """
    from app.stores.files import MAP_SIZE, room  # not where streams are kept elsewhere, for the memory that it takes

    try:
        disk.prove(wanted, room=room(wanted))
    except OSError as error:
        with folders.shared("streams", room=FREE) as folder:
            most = min(MAP_SIZE, folders.free(folder) // 2**13 * 2**12)  # half, in whole pages: others share it
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
