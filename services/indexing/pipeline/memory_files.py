"""A document in memory, which the process that parses it has instead of a file."""

import errno
import io
import mmap
import os
import stat

from services.indexing.pipeline.errors import DocumentUnreadable


def mapped(descriptor: int) -> memoryview:
    """The file behind `descriptor`, mapped privately. The descriptor can then be closed.

    Raises:
        DocumentUnreadable: It is no regular file, or cannot be read.
    """
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DocumentUnreadable(detail="no regular file")
        if not status.st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_COPY))
    except (OSError, ValueError) as error:
        raise DocumentUnreadable(detail=str(error)) from error


class Stream(io.RawIOBase):
    """Reads `content` like a file, without a copy of it."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._content)}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, f"position {start + offset}")
        self._position = start + offset
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        end = None if size is None or size < 0 else self._position + size
        part = bytes(self._content[self._position : end])
        self._position += len(part)
        return part
