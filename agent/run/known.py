"""What a run's weights know, where that is not what its sensors perceive."""

from __future__ import annotations

from agent.config.parse import Config
from models.files import store
from models.vocabulary import vocabulary_of

SYNTHETIC = "synthetic_"
"""Begin of the types of the drivers that show the synthetic world."""


def note_on_weights(config: Config) -> str:
    """Return one line on what the weights know if that is the synthetic world alone, and a sensor is not of it.

    Empty otherwise. Raises CheckpointError and VocabularyError.
    """
    real = [name for name, sensor in config.sensors.items() if not sensor.spec.type.startswith(SYNTHETIC)]
    vocabulary = vocabulary_of(store.find(config.model.weights)) if real else None
    if vocabulary is None or not vocabulary.synthetic:
        return ""
    return (
        f"{config.model.weights} knows {vocabulary.knows}: alerts of {', '.join(real)} mean little; "
        "for the real world set model.weights, such as imagebind-huge"
    )
