"""The settings of drift."""

from services.runtime.settings import Port, Seconds, Settings

SERVICE = "drift"


class DriftSettings(Settings, frozen=True):
    """`webhook` and `alertmanager` are where alerts go: URLs; empty: nowhere. They may hold passwords.

    The views of the state are on `port` of `host`, 0: nowhere. What stands is told to Alertmanager every `resend_s`:
    it takes what it does not hear of for as long as its `resolve_timeout` for resolved. States are saved every
    `save_every_s`: a restart folds so much again.
    """

    host: str = "127.0.0.1"
    port: Port = 0
    webhook: str = ""
    alertmanager: str = ""
    resend_s: Seconds = 60.0
    save_every_s: Seconds = 5.0
    give_up_s: Seconds = 3600.0  # after so long a delivery that fails is given up, and said to be

    def __repr__(self) -> str:
        shown = (name for name in self.__struct_fields__ if name not in ("webhook", "alertmanager"))
        return f"DriftSettings({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)}, …)"
