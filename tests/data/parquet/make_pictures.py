# Small tables of pictures, as pyarrow writes them: pages in gzip, lz4 and brotli, labels that are booleans,
# lists of pictures, pictures that are null. Made with pyarrow 26.0.
import io
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq


def png(i, side=18):
    """A grey picture that no other one equals."""
    rows = b"".join(b"\0" + bytes((x * 7 + y * 11 + i * 29) % 256 for x in range(side)) for y in range(side))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(i):
    return {"bytes": png(i), "path": f"{i}.png"}


plain = pa.table({
    "image": pa.array([picture(i) for i in range(12)], PICTURE),
    "label": pa.array([i % 2 == 0 for i in range(12)]),
})
for name in ["gzip", "lz4", "brotli"]:
    pq.write_table(plain, f"{name}.parquet", compression=name, row_group_size=5)

# Row 0 has no picture, row 1 one, row 2 none (null), rows 3 to 8 two or three; one of the bytes is null.
lists = [[], [picture(0)], None] + [[picture(10 * r + k) for k in range(2 + r % 2)] for r in range(3, 9)]
lists[3][1]["bytes"] = None
pq.write_table(
    pa.table({
        "images": pa.array(lists, pa.list_(PICTURE)),
        "label": pa.array([float("nan") if r == 4 else float(r % 2) for r in range(9)], pa.float64()),
    }),
    "lists.parquet", compression="zstd", row_group_size=4,
)
pq.write_table(
    pa.table({"images": pa.array([[png(1), png(2)], [png(3)]], pa.list_(pa.binary()))}), "bare_lists.parquet",
)
pq.write_table(
    pa.table({
        "image": pa.array([None if i in (3, 7) else picture(i) for i in range(12)], PICTURE),
        "label": pa.array([i % 2 for i in range(12)], pa.int8()),
    }),
    "nulls.parquet",
)
