"""What the trainer tells: whether it trains now."""

from services.runtime.health import Health


def tell(health: Health) -> None:
    name, said = "thalweg_training", "1 while a version is trained."
    health.metrics.told(name, said, lambda: {(): float(health.busy is not None)})
