"""Where the command `thalweg` begins: what it needs takes a second to load, and a Ctrl-C meanwhile waits for that.

An interrupt in the midst of an import can come out of it as any error: numpy's C code makes an ImportError of it.
"""

import signal
import sys


def main() -> int:
    """Run the command line; return its exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    from infra import cli  # noqa: PLC0415 - see above

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        return cli.main()
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return cli.INTERRUPTED
