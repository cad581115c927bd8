"""The public names, for type checkers and editors; tests/test_rules.py keeps them equal to the registry."""

from . import logging as logging, modeling_outputs as modeling_outputs
from .auto import (
    AutoConfig as AutoConfig,
    AutoModel as AutoModel,
    AutoModelForCausalLM as AutoModelForCausalLM,
    AutoModelForMaskedLM as AutoModelForMaskedLM,
    AutoModelForMultipleChoice as AutoModelForMultipleChoice,
    AutoModelForNextSentencePrediction as AutoModelForNextSentencePrediction,
    AutoModelForPreTraining as AutoModelForPreTraining,
    AutoModelForQuestionAnswering as AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification as AutoModelForSequenceClassification,
    AutoModelForTokenClassification as AutoModelForTokenClassification,
)
from .cache import (
    DynamicCache as DynamicCache,
)
from .config import (
    Config as Config,
)
from .encoding import (
    BatchEncoding as BatchEncoding,
)
from .model import (
    Model as Model,
)
from .models.bert import (
    BertConfig as BertConfig,
    BertForMaskedLM as BertForMaskedLM,
    BertForMultipleChoice as BertForMultipleChoice,
    BertForNextSentencePrediction as BertForNextSentencePrediction,
    BertForPreTraining as BertForPreTraining,
    BertForQuestionAnswering as BertForQuestionAnswering,
    BertForSequenceClassification as BertForSequenceClassification,
    BertForTokenClassification as BertForTokenClassification,
    BertLMHeadModel as BertLMHeadModel,
    BertModel as BertModel,
    BertPreTrainedModel as BertPreTrainedModel,
)
from .models.distilbert import (
    DistilBertConfig as DistilBertConfig,
    DistilBertForMaskedLM as DistilBertForMaskedLM,
    DistilBertForMultipleChoice as DistilBertForMultipleChoice,
    DistilBertForQuestionAnswering as DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification as DistilBertForSequenceClassification,
    DistilBertForTokenClassification as DistilBertForTokenClassification,
    DistilBertModel as DistilBertModel,
    DistilBertPreTrainedModel as DistilBertPreTrainedModel,
)
from .outputs import (
    ModelOutput as ModelOutput,
)
from .pipelines import (
    Pipeline as Pipeline,
    TextClassificationPipeline as TextClassificationPipeline,
    pipeline as pipeline,
)
from .sequences import (
    Packed as Packed,
)
from .tokenizer import (
    PreTrainedTokenizer as PreTrainedTokenizer,
    PreTrainedTokenizerBase as PreTrainedTokenizerBase,
    PreTrainedTokenizerFast as PreTrainedTokenizerFast,
    Tokenizer as Tokenizer,
)
from .tokenizer_classes import (
    AutoTokenizer as AutoTokenizer,
    BertTokenizer as BertTokenizer,
    BertTokenizerFast as BertTokenizerFast,
    DistilBertTokenizer as DistilBertTokenizer,
    DistilBertTokenizerFast as DistilBertTokenizerFast,
)
from .tokenizer_training import (
    train_tokenizer as train_tokenizer,
)
from .trace import (
    Trace as Trace,
    watch as watch,
)
from .views import (
    attention_view as attention_view,
)

PretrainedConfig = Config
PreTrainedConfig = Config
PreTrainedModel = Model
Cache = DynamicCache

__version__: str
