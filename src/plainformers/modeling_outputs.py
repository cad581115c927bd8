"""The names of model outputs that users import from a module of this name; they are those of outputs.py."""

from .outputs import (
    AlbertForPreTrainingOutput as AlbertForPreTrainingOutput,
    BaseModelOutput as BaseModelOutput,
    BaseModelOutputWithPooling as BaseModelOutputWithPooling,
    BaseModelOutputWithPoolingAndCrossAttentions as BaseModelOutputWithPoolingAndCrossAttentions,
    CausalLMOutput as CausalLMOutput,
    CausalLMOutputWithCrossAttentions as CausalLMOutputWithCrossAttentions,
    ElectraForPreTrainingOutput as ElectraForPreTrainingOutput,
    MaskedLMOutput as MaskedLMOutput,
    ModelOutput as ModelOutput,
    MultipleChoiceModelOutput as MultipleChoiceModelOutput,
    NextSentencePredictorOutput as NextSentencePredictorOutput,
    QuestionAnsweringModelOutput as QuestionAnsweringModelOutput,
    SequenceClassifierOutput as SequenceClassifierOutput,
    TokenClassifierOutput as TokenClassifierOutput,
)

__all__ = [name for name in dir() if name[0].isupper()]  # pyright: ignore[reportUnsupportedDunderAll]
