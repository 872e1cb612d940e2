"""The settings of the trainer and of the process that trains."""

from typing import Annotated

import msgspec

from services.runtime.settings import Count, Seconds, Settings

SERVICE = "trainer"
LATER = 75  # how the process that trains ends where it can't now: EX_TEMPFAIL


class TrainerSettings(Settings, frozen=True):
    """`store` is where the tables of examples are: a folder or a URL; empty: `<data>/store`.

    What comes within `commit_every_s` is one commit of the table. It is compacted, and rid of versions older than
    `keep_days`, every `tidy_every` commits. `mlflow` is the tracking server; empty: a file in `data`. Where serving and
    training share cores, `niceness` above 0 has those who serve go first.
    """

    store: str = ""
    commit_every_s: Seconds = 10.0
    tidy_every: Count = 100
    keep_days: Count = 30
    mlflow: str = ""
    niceness: Annotated[int, msgspec.Meta(ge=0, le=19)] = 5

    @property
    def table(self) -> str:
        return self.store or str(self.data / "store")
