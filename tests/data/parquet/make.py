# The tables beside this file: lines about the weather (label 0) and about metals (label 1), as pyarrow and as polars write them.
# Made with pyarrow 26.0 and polars 2.1.
import polars
import pyarrow
import pyarrow.parquet

WORDS = ["sun", "rain", "cloud", "wind", "snow", "storm", "iron", "gold", "tin", "lead", "zinc", "copper"]


def line(i):
    first = 6 * (i % 2)
    return " ".join(WORDS[first + (i * 5 + k * k * (1 + i % 3)) % 6] for k in range(8))


texts = [line(i) for i in range(120)]
labels = [i % 2 for i in range(120)]
table = pyarrow.table({"text": texts, "label": pyarrow.array(labels, pyarrow.int64())})
pyarrow.parquet.write_table(table, "pyarrow.parquet", compression="snappy", row_group_size=50)
polars.DataFrame({"body": texts, "label": labels}).write_parquet("polars.parquet")
