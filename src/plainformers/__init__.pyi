"""The public names, for type checkers and editors; tests/test_rules.py keeps them equal to the registry."""

from . import logging as logging, modeling_outputs as modeling_outputs, trainer_utils as trainer_utils
from .auto import (
    AutoConfig as AutoConfig,
    AutoModel as AutoModel,
)
from .cache import (
    DynamicCache as DynamicCache,
    QuantizedCache as QuantizedCache,
    StaticCache as StaticCache,
)
from .config import (
    Config as Config,
)
from .constraints import (
    Constraint as Constraint,
    DisjunctiveConstraint as DisjunctiveConstraint,
    PhrasalConstraint as PhrasalConstraint,
)
from .encoding import (
    BatchEncoding as BatchEncoding,
)
from .generation_config import (
    GenerationConfig as GenerationConfig,
)
from .logits import (
    LogitsProcessor as LogitsProcessor,
    LogitsProcessorList as LogitsProcessorList,
    StoppingCriteria as StoppingCriteria,
    StoppingCriteriaList as StoppingCriteriaList,
)
from .lora import (
    LoraConfig as LoraConfig,
    PeftModel as PeftModel,
    get_peft_model as get_peft_model,
)
from .model import (
    Model as Model,
)
from .models.albert import (
    AlbertConfig as AlbertConfig,
    AlbertForMaskedLM as AlbertForMaskedLM,
    AlbertForMultipleChoice as AlbertForMultipleChoice,
    AlbertForPreTraining as AlbertForPreTraining,
    AlbertForQuestionAnswering as AlbertForQuestionAnswering,
    AlbertForSequenceClassification as AlbertForSequenceClassification,
    AlbertForTokenClassification as AlbertForTokenClassification,
    AlbertModel as AlbertModel,
    AlbertPreTrainedModel as AlbertPreTrainedModel,
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
from .models.deberta_v2 import (
    DebertaV2Config as DebertaV2Config,
    DebertaV2ForMaskedLM as DebertaV2ForMaskedLM,
    DebertaV2ForMultipleChoice as DebertaV2ForMultipleChoice,
    DebertaV2ForQuestionAnswering as DebertaV2ForQuestionAnswering,
    DebertaV2ForSequenceClassification as DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification as DebertaV2ForTokenClassification,
    DebertaV2Model as DebertaV2Model,
    DebertaV2PreTrainedModel as DebertaV2PreTrainedModel,
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
from .models.electra import (
    ElectraConfig as ElectraConfig,
    ElectraForCausalLM as ElectraForCausalLM,
    ElectraForMaskedLM as ElectraForMaskedLM,
    ElectraForMultipleChoice as ElectraForMultipleChoice,
    ElectraForPreTraining as ElectraForPreTraining,
    ElectraForQuestionAnswering as ElectraForQuestionAnswering,
    ElectraForSequenceClassification as ElectraForSequenceClassification,
    ElectraForTokenClassification as ElectraForTokenClassification,
    ElectraModel as ElectraModel,
    ElectraPreTrainedModel as ElectraPreTrainedModel,
)
from .models.gemma2 import (
    Gemma2Config as Gemma2Config,
    Gemma2ForCausalLM as Gemma2ForCausalLM,
    Gemma2ForSequenceClassification as Gemma2ForSequenceClassification,
    Gemma2ForTokenClassification as Gemma2ForTokenClassification,
    Gemma2Model as Gemma2Model,
    Gemma2PreTrainedModel as Gemma2PreTrainedModel,
)
from .models.gemma3_text import (
    Gemma3ForCausalLM as Gemma3ForCausalLM,
    Gemma3TextConfig as Gemma3TextConfig,
    Gemma3TextForSequenceClassification as Gemma3TextForSequenceClassification,
    Gemma3TextModel as Gemma3TextModel,
    Gemma3TextPreTrainedModel as Gemma3TextPreTrainedModel,
)
from .models.gpt2 import (
    GPT2Config as GPT2Config,
    GPT2DoubleHeadsModel as GPT2DoubleHeadsModel,
    GPT2ForQuestionAnswering as GPT2ForQuestionAnswering,
    GPT2ForSequenceClassification as GPT2ForSequenceClassification,
    GPT2ForTokenClassification as GPT2ForTokenClassification,
    GPT2LMHeadModel as GPT2LMHeadModel,
    GPT2Model as GPT2Model,
    GPT2PreTrainedModel as GPT2PreTrainedModel,
)
from .models.gpt_neox import (
    GPTNeoXConfig as GPTNeoXConfig,
    GPTNeoXForCausalLM as GPTNeoXForCausalLM,
    GPTNeoXForQuestionAnswering as GPTNeoXForQuestionAnswering,
    GPTNeoXForSequenceClassification as GPTNeoXForSequenceClassification,
    GPTNeoXForTokenClassification as GPTNeoXForTokenClassification,
    GPTNeoXModel as GPTNeoXModel,
    GPTNeoXPreTrainedModel as GPTNeoXPreTrainedModel,
)
from .models.gpt_oss import (
    GptOssConfig as GptOssConfig,
    GptOssForCausalLM as GptOssForCausalLM,
    GptOssForSequenceClassification as GptOssForSequenceClassification,
    GptOssForTokenClassification as GptOssForTokenClassification,
    GptOssModel as GptOssModel,
    GptOssPreTrainedModel as GptOssPreTrainedModel,
)
from .models.llama import (
    LlamaConfig as LlamaConfig,
    LlamaForCausalLM as LlamaForCausalLM,
    LlamaForQuestionAnswering as LlamaForQuestionAnswering,
    LlamaForSequenceClassification as LlamaForSequenceClassification,
    LlamaForTokenClassification as LlamaForTokenClassification,
    LlamaModel as LlamaModel,
    LlamaPreTrainedModel as LlamaPreTrainedModel,
)
from .models.mistral import (
    MistralConfig as MistralConfig,
    MistralForCausalLM as MistralForCausalLM,
    MistralForQuestionAnswering as MistralForQuestionAnswering,
    MistralForSequenceClassification as MistralForSequenceClassification,
    MistralForTokenClassification as MistralForTokenClassification,
    MistralModel as MistralModel,
    MistralPreTrainedModel as MistralPreTrainedModel,
)
from .models.mixtral import (
    MixtralConfig as MixtralConfig,
    MixtralForCausalLM as MixtralForCausalLM,
    MixtralForQuestionAnswering as MixtralForQuestionAnswering,
    MixtralForSequenceClassification as MixtralForSequenceClassification,
    MixtralForTokenClassification as MixtralForTokenClassification,
    MixtralModel as MixtralModel,
    MixtralPreTrainedModel as MixtralPreTrainedModel,
)
from .models.modernbert import (
    ModernBertConfig as ModernBertConfig,
    ModernBertForMaskedLM as ModernBertForMaskedLM,
    ModernBertForMultipleChoice as ModernBertForMultipleChoice,
    ModernBertForQuestionAnswering as ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification as ModernBertForSequenceClassification,
    ModernBertForTokenClassification as ModernBertForTokenClassification,
    ModernBertModel as ModernBertModel,
    ModernBertPreTrainedModel as ModernBertPreTrainedModel,
)
from .models.mpnet import (
    MPNetConfig as MPNetConfig,
    MPNetForMaskedLM as MPNetForMaskedLM,
    MPNetForMultipleChoice as MPNetForMultipleChoice,
    MPNetForQuestionAnswering as MPNetForQuestionAnswering,
    MPNetForSequenceClassification as MPNetForSequenceClassification,
    MPNetForTokenClassification as MPNetForTokenClassification,
    MPNetModel as MPNetModel,
    MPNetPreTrainedModel as MPNetPreTrainedModel,
)
from .models.nomic_bert import (
    NomicBertConfig as NomicBertConfig,
    NomicBertForMaskedLM as NomicBertForMaskedLM,
    NomicBertForSequenceClassification as NomicBertForSequenceClassification,
    NomicBertForTokenClassification as NomicBertForTokenClassification,
    NomicBertModel as NomicBertModel,
    NomicBertPreTrainedModel as NomicBertPreTrainedModel,
)
from .models.opt import (
    OPTConfig as OPTConfig,
    OPTForCausalLM as OPTForCausalLM,
    OPTForQuestionAnswering as OPTForQuestionAnswering,
    OPTForSequenceClassification as OPTForSequenceClassification,
    OPTModel as OPTModel,
    OPTPreTrainedModel as OPTPreTrainedModel,
)
from .models.phi3 import (
    Phi3Config as Phi3Config,
    Phi3ForCausalLM as Phi3ForCausalLM,
    Phi3ForSequenceClassification as Phi3ForSequenceClassification,
    Phi3ForTokenClassification as Phi3ForTokenClassification,
    Phi3Model as Phi3Model,
    Phi3PreTrainedModel as Phi3PreTrainedModel,
)
from .models.qwen2 import (
    Qwen2Config as Qwen2Config,
    Qwen2ForCausalLM as Qwen2ForCausalLM,
    Qwen2ForQuestionAnswering as Qwen2ForQuestionAnswering,
    Qwen2ForSequenceClassification as Qwen2ForSequenceClassification,
    Qwen2ForTokenClassification as Qwen2ForTokenClassification,
    Qwen2Model as Qwen2Model,
    Qwen2PreTrainedModel as Qwen2PreTrainedModel,
)
from .models.qwen3 import (
    Qwen3Config as Qwen3Config,
    Qwen3ForCausalLM as Qwen3ForCausalLM,
    Qwen3ForQuestionAnswering as Qwen3ForQuestionAnswering,
    Qwen3ForSequenceClassification as Qwen3ForSequenceClassification,
    Qwen3ForTokenClassification as Qwen3ForTokenClassification,
    Qwen3Model as Qwen3Model,
    Qwen3PreTrainedModel as Qwen3PreTrainedModel,
)
from .models.qwen3_moe import (
    Qwen3MoeConfig as Qwen3MoeConfig,
    Qwen3MoeForCausalLM as Qwen3MoeForCausalLM,
    Qwen3MoeForQuestionAnswering as Qwen3MoeForQuestionAnswering,
    Qwen3MoeForSequenceClassification as Qwen3MoeForSequenceClassification,
    Qwen3MoeForTokenClassification as Qwen3MoeForTokenClassification,
    Qwen3MoeModel as Qwen3MoeModel,
    Qwen3MoePreTrainedModel as Qwen3MoePreTrainedModel,
)
from .models.roberta import (
    CamembertConfig as CamembertConfig,
    CamembertForCausalLM as CamembertForCausalLM,
    CamembertForMaskedLM as CamembertForMaskedLM,
    CamembertForMultipleChoice as CamembertForMultipleChoice,
    CamembertForQuestionAnswering as CamembertForQuestionAnswering,
    CamembertForSequenceClassification as CamembertForSequenceClassification,
    CamembertForTokenClassification as CamembertForTokenClassification,
    CamembertModel as CamembertModel,
    CamembertPreTrainedModel as CamembertPreTrainedModel,
    RobertaConfig as RobertaConfig,
    RobertaForCausalLM as RobertaForCausalLM,
    RobertaForMaskedLM as RobertaForMaskedLM,
    RobertaForMultipleChoice as RobertaForMultipleChoice,
    RobertaForQuestionAnswering as RobertaForQuestionAnswering,
    RobertaForSequenceClassification as RobertaForSequenceClassification,
    RobertaForTokenClassification as RobertaForTokenClassification,
    RobertaModel as RobertaModel,
    RobertaPreTrainedModel as RobertaPreTrainedModel,
    XLMRobertaConfig as XLMRobertaConfig,
    XLMRobertaForCausalLM as XLMRobertaForCausalLM,
    XLMRobertaForMaskedLM as XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice as XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering as XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification as XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification as XLMRobertaForTokenClassification,
    XLMRobertaModel as XLMRobertaModel,
    XLMRobertaPreTrainedModel as XLMRobertaPreTrainedModel,
)
from .models.xlnet import (
    XLNetConfig as XLNetConfig,
    XLNetForMultipleChoice as XLNetForMultipleChoice,
    XLNetForQuestionAnswering as XLNetForQuestionAnswering,
    XLNetForQuestionAnsweringSimple as XLNetForQuestionAnsweringSimple,
    XLNetForSequenceClassification as XLNetForSequenceClassification,
    XLNetForTokenClassification as XLNetForTokenClassification,
    XLNetLMHeadModel as XLNetLMHeadModel,
    XLNetModel as XLNetModel,
    XLNetPreTrainedModel as XLNetPreTrainedModel,
)
from .outputs import (
    ModelOutput as ModelOutput,
)
from .pipelines import (
    FeatureExtractionPipeline as FeatureExtractionPipeline,
    FillMaskPipeline as FillMaskPipeline,
    Pipeline as Pipeline,
    QuestionAnsweringPipeline as QuestionAnsweringPipeline,
    SentenceSimilarityPipeline as SentenceSimilarityPipeline,
    TextClassificationPipeline as TextClassificationPipeline,
    TextGenerationPipeline as TextGenerationPipeline,
    TextRankingPipeline as TextRankingPipeline,
    TokenClassificationPipeline as TokenClassificationPipeline,
    ZeroShotClassificationPipeline as ZeroShotClassificationPipeline,
    pipeline as pipeline,
)
from .sequences import (
    Packed as Packed,
)
from .streaming import (
    AsyncTextIteratorStreamer as AsyncTextIteratorStreamer,
    TextIteratorStreamer as TextIteratorStreamer,
    TextStreamer as TextStreamer,
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
    DistilBertTokenizer as DistilBertTokenizer,
)
from .tokenizer_training import (
    train_tokenizer as train_tokenizer,
)
from .trace import (
    Trace as Trace,
    watch as watch,
)
from .training.argument_parser import (
    HfArg as HfArg,
    HfArgumentParser as HfArgumentParser,
)
from .training.arguments import (
    TrainingArguments as TrainingArguments,
)
from .training.callbacks import (
    DefaultFlowCallback as DefaultFlowCallback,
    EarlyStoppingCallback as EarlyStoppingCallback,
    PrinterCallback as PrinterCallback,
    ProgressCallback as ProgressCallback,
    TrainerCallback as TrainerCallback,
    TrainerControl as TrainerControl,
    TrainerState as TrainerState,
)
from .training.data import (
    DataCollatorForLanguageModeling as DataCollatorForLanguageModeling,
    DataCollatorForMultipleChoice as DataCollatorForMultipleChoice,
    DataCollatorForPermutationLanguageModeling as DataCollatorForPermutationLanguageModeling,
    DataCollatorForSeq2Seq as DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification as DataCollatorForTokenClassification,
    DataCollatorForWholeWordMask as DataCollatorForWholeWordMask,
    DataCollatorWithFlattening as DataCollatorWithFlattening,
    DataCollatorWithPadding as DataCollatorWithPadding,
    DefaultDataCollator as DefaultDataCollator,
    default_data_collator as default_data_collator,
)
from .training.evaluation import (
    EvalPrediction as EvalPrediction,
)
from .training.optim import (
    Adafactor as Adafactor,
    AdafactorSchedule as AdafactorSchedule,
    SchedulerType as SchedulerType,
    get_adafactor_schedule as get_adafactor_schedule,
    get_constant_schedule as get_constant_schedule,
    get_constant_schedule_with_warmup as get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup as get_cosine_schedule_with_warmup,
    get_cosine_with_hard_restarts_schedule_with_warmup as get_cosine_with_hard_restarts_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup as get_cosine_with_min_lr_schedule_with_warmup,
    get_cosine_with_min_lr_schedule_with_warmup_lr_rate as get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    get_inverse_sqrt_schedule as get_inverse_sqrt_schedule,
    get_linear_schedule_with_warmup as get_linear_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup as get_polynomial_decay_schedule_with_warmup,
    get_reduce_on_plateau_schedule as get_reduce_on_plateau_schedule,
    get_scheduler as get_scheduler,
    get_wsd_schedule as get_wsd_schedule,
)
from .training.seeding import (
    enable_full_determinism as enable_full_determinism,
    set_seed as set_seed,
)
from .training.seq2seq import (
    Seq2SeqTrainer as Seq2SeqTrainer,
    Seq2SeqTrainingArguments as Seq2SeqTrainingArguments,
)
from .training.trainer import (
    Trainer as Trainer,
)
from .views import (
    attention_view as attention_view,
)

PretrainedConfig = Config
PreTrainedConfig = Config
PreTrainedModel = Model
Cache = DynamicCache
BertTokenizerFast = BertTokenizer
DistilBertTokenizerFast = DistilBertTokenizer
AutoModelForCausalLM = AutoModel
AutoModelForMaskedLM = AutoModel
AutoModelForMultipleChoice = AutoModel
AutoModelForNextSentencePrediction = AutoModel
AutoModelForPreTraining = AutoModel
AutoModelForQuestionAnswering = AutoModel
AutoModelForSequenceClassification = AutoModel
AutoModelForTokenClassification = AutoModel
AlbertTokenizer = AlbertTokenizerFast = Tokenizer
BartTokenizer = BartTokenizerFast = Tokenizer
BarthezTokenizer = BarthezTokenizerFast = Tokenizer
BertGenerationTokenizer = BertGenerationTokenizerFast = Tokenizer
BigBirdTokenizer = BigBirdTokenizerFast = Tokenizer
BlenderbotTokenizer = BlenderbotTokenizerFast = Tokenizer
ByT5Tokenizer = ByT5TokenizerFast = Tokenizer
CLIPTokenizer = CLIPTokenizerFast = Tokenizer
CamembertTokenizer = CamembertTokenizerFast = Tokenizer
CanineTokenizer = CanineTokenizerFast = Tokenizer
CodeGenTokenizer = CodeGenTokenizerFast = Tokenizer
CodeLlamaTokenizer = CodeLlamaTokenizerFast = Tokenizer
ConvBertTokenizer = ConvBertTokenizerFast = Tokenizer
DebertaTokenizer = DebertaTokenizerFast = Tokenizer
DebertaV2Tokenizer = DebertaV2TokenizerFast = Tokenizer
ElectraTokenizer = ElectraTokenizerFast = Tokenizer
EsmTokenizer = EsmTokenizerFast = Tokenizer
FNetTokenizer = FNetTokenizerFast = Tokenizer
GPT2Tokenizer = GPT2TokenizerFast = Tokenizer
GPTNeoXTokenizer = GPTNeoXTokenizerFast = Tokenizer
GemmaTokenizer = GemmaTokenizerFast = Tokenizer
HerbertTokenizer = HerbertTokenizerFast = Tokenizer
LEDTokenizer = LEDTokenizerFast = Tokenizer
LayoutLMTokenizer = LayoutLMTokenizerFast = Tokenizer
LlamaTokenizer = LlamaTokenizerFast = Tokenizer
LongformerTokenizer = LongformerTokenizerFast = Tokenizer
LxmertTokenizer = LxmertTokenizerFast = Tokenizer
M2M100Tokenizer = M2M100TokenizerFast = Tokenizer
MBartTokenizer = MBartTokenizerFast = Tokenizer
MBart50Tokenizer = MBart50TokenizerFast = Tokenizer
MPNetTokenizer = MPNetTokenizerFast = Tokenizer
MarianTokenizer = MarianTokenizerFast = Tokenizer
MobileBertTokenizer = MobileBertTokenizerFast = Tokenizer
MvpTokenizer = MvpTokenizerFast = Tokenizer
NllbTokenizer = NllbTokenizerFast = Tokenizer
OpenAIGPTTokenizer = OpenAIGPTTokenizerFast = Tokenizer
PLBartTokenizer = PLBartTokenizerFast = Tokenizer
PegasusTokenizer = PegasusTokenizerFast = Tokenizer
PerceiverTokenizer = PerceiverTokenizerFast = Tokenizer
Qwen2Tokenizer = Qwen2TokenizerFast = Tokenizer
ReformerTokenizer = ReformerTokenizerFast = Tokenizer
RemBertTokenizer = RemBertTokenizerFast = Tokenizer
RobertaTokenizer = RobertaTokenizerFast = Tokenizer
SiglipTokenizer = SiglipTokenizerFast = Tokenizer
Speech2TextTokenizer = Speech2TextTokenizerFast = Tokenizer
SqueezeBertTokenizer = SqueezeBertTokenizerFast = Tokenizer
T5Tokenizer = T5TokenizerFast = Tokenizer
WhisperTokenizer = WhisperTokenizerFast = Tokenizer
XGLMTokenizer = XGLMTokenizerFast = Tokenizer
XLMRobertaTokenizer = XLMRobertaTokenizerFast = Tokenizer
XLNetTokenizer = XLNetTokenizerFast = Tokenizer

__version__: str
