# pictures.tar.gz: a shard in WebDataset's layout in gzip, eight grey pictures of two classes.
import gzip
import io
import struct
import tarfile
import zlib


def png(i, side=18):
    rows = b"".join(b"\0" + bytes((x * 7 + y * 11 + i * 29) % 256 for x in range(side)) for y in range(side))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w") as tar:
    for i in range(8):
        for ending, content in [("png", png(i)), ("cls", str(i % 2).encode())]:
            member = tarfile.TarInfo(f"{i:04}.{ending}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
with open("pictures.tar.gz", "wb") as f:
    f.write(gzip.compress(out.getvalue(), 9, mtime=0))
