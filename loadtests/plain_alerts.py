"""Alerts on the served loss by a plain detector, for load tests of what is done about them."""

from collections import deque
from contextlib import suppress

import msgspec
import numpy as np
from confluent_kafka import Producer

from infra.local.quality import losses
from infra.local.stack import Stack
from services.runtime.alerts import Alert, Place
from services.runtime.errors import Retry
from services.runtime.frames import micros
from services.runtime.kafka import Tail
from services.runtime.schemas import examples_frame, labelled

MANY = 5000  # records taken at once
WARM_UP, WINDOW = 5000, 500  # labelled events
MARGIN, NEAR, MOST_LOST = 0.3, 0.1, 3.0  # nats an event
ALARM = 40.0  # nats


class Plain:
    """Raises an alert on the served loss, and resolves it: a sum over what is usual (Page, 1954), by `examples`."""

    def __init__(self, stack: Stack) -> None:
        self._stack, stream = stack, stack.stream
        self._frame, self._topic = examples_frame(stream), stream.topic("alerts")
        self._examples = Tail(stack.settings, stream.topic("examples"), from_beginning=True)
        self._producer = Producer({"bootstrap.servers": stack.settings.broker, "log_level": 0})
        self._seen, self._usual, self._sum = 0, 0.0, 0.0
        self._since: Place | None = None
        self._alert: Alert | None = None
        self._lately: deque[float] = deque(maxlen=WINDOW)

    def look(self) -> None:
        self._stack.check()
        with suppress(Retry):
            for record in self._examples.poll(MANY, 0.0):
                batch = labelled(self._frame.decode(record))
                lost = losses(np.asarray(batch["served"]), np.asarray(batch["label"]) > 0)
                for time_us, loss in zip(micros(batch["event_time"]).tolist(), lost.tolist(), strict=True):
                    self._take(Place(time_us, record.topic, 0, record.offset), min(loss, MOST_LOST))

    def _take(self, place: Place, loss: float) -> None:
        self._seen += 1
        self._lately.append(loss)
        if self._alert is not None:
            if len(self._lately) == WINDOW and sum(self._lately) < WINDOW * (self._usual + NEAR):
                self._say(msgspec.structs.replace(self._alert, number=1, event="resolved", at=place))
                self._alert, self._sum = None, 0.0
            return
        self._usual += (loss - self._usual) / min(self._seen, WARM_UP)
        self._sum = max(0.0, self._sum + loss - self._usual - MARGIN)
        self._since = None if self._sum == 0 else self._since or place
        if self._seen > WARM_UP and self._sum > ALARM and self._since is not None:
            name, why = f"loss:{self._since.offset}", "served predictions lose more than they did"
            change = self._since, place, "plain", self._sum, why
            self._lately.clear()
            alert = Alert(name, 0, "raised", "loss", "served", "critical", *change)
            self._alert = msgspec.structs.replace(alert, retrain_from=self._since.time)
            self._say(self._alert)

    def _say(self, alert: Alert) -> None:
        self._producer.produce(self._topic, msgspec.json.encode(alert), key=alert.key, partition=0)
        self._producer.flush(5)
