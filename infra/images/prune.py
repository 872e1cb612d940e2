"""Takes out of an image's packages what nothing runs: tests, headers, sources, unused libraries, compilers' symbols.

Pure standard library; it runs while the image is built. The bar is that every service still imports, and works.
"""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDERS = ("tests", "test", "include")
SOURCES = (".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cc", ".cpp", ".a", ".pyi")
# Arrow's other readers and file systems: we use record batches and IPC, and the trainer's Delta table Parquet.
ARROW = (
    "flight",
    "_substrait.cpython",
    "s3",
    "gcs",
    "hdfs",
    "orc",
    "azure",
    "cuda",
    "gandiva",
    "cpp_tests",
    "tests_cpp",
)
NEEDED = {"numpy/testing", "torch/testing", "torch/include"}  # named so, and imported at run time


def prune(packages: Path) -> int:
    """Remove it; return how many bytes went."""
    before = size(packages)
    for folder in [path for path in packages.rglob("*") if path.is_dir() and path.name in FOLDERS]:
        if folder.parent != packages and folder.relative_to(packages).as_posix() not in NEEDED:
            shutil.rmtree(folder, ignore_errors=True)
    for file in [path for path in packages.rglob("*") if path.is_file()]:
        if file.suffix in SOURCES or _arrow(file, packages):
            file.unlink()
    _strip([path for path in packages.rglob("*.so*") if path.is_file() and not path.is_symlink()])
    return before - size(packages)


def _arrow(file: Path, packages: Path) -> bool:
    """Whether it is a compiled module or a library of Arrow that nobody loads."""
    return (
        file.parent == packages / "pyarrow" and ".so" in file.name and any(word in file.name.lower() for word in ARROW)
    )


def _strip(libraries: list[Path]) -> None:
    """Take the symbols that no loader needs; what auditwheel has moved (`*.libs`) is laid out in a way strip breaks."""
    ours = [library for library in libraries if not library.parent.name.endswith(".libs")]
    strip = shutil.which("strip")
    if ours and strip is None:
        raise RuntimeError("strip is missing; the builder's image needs binutils")
    for library in ours:
        subprocess.run([str(strip), "--strip-unneeded", str(library)], check=True)


def size(packages: Path) -> int:
    return sum(path.stat().st_size for path in packages.rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    print(f"{prune(Path(sys.argv[1])) / 1e6:.0f} MB that nothing runs are left out of {sys.argv[1]}")
