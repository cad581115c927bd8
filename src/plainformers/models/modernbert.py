"""ModernBERT: BERT made anew, with rotary positions, gated layers, and attention that is mostly local.

Paper: Warner et al., 2024, https://arxiv.org/abs/2412.13663
Reference code: https://github.com/AnswerDotAI/ModernBERT
Shapes: B batch, T tokens, C hidden_size, H heads, D = C / H, V vocab_size, N labels, L layers, S choices.

Every layer normalises its input (the first reads the normalised embeddings); every third sees all tokens, the others
local_attention / 2 to each side. Different from Transformers: positions count from the first real token, and the pooled
token is that one, so padding on the left changes nothing; in the config, what is set last of global_rope_theta and
rope_parameters (or global_attn_every_n_layers and layer_types) counts, and the other follows.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..config import Config
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, token_loss
from ..model import Model
from ..outputs import (
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, first_token, make_position_ids, mean_tokens

# ---- Configuration

# kinds of layers
FULL = "full_attention"
SLIDING = "sliding_attention"


def every(n: int, layers: int) -> list[str]:
    """The kinds of so many layers, when every n-th sees all tokens."""
    return [SLIDING if i % n else FULL for i in range(layers)]


@dataclass(init=False)
class ModernBertConfig(Config):
    model_type = "modernbert"
    attribute_map = {"rope_scaling": "rope_parameters"}

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    initializer_cutoff_factor: float | None = 2.0  # weights are drawn within so many deviations; None: 3
    norm_eps: float = 1e-5
    norm_bias: bool = False
    pad_token_id: int | None = 50283
    eos_token_id: int | list[int] | None = 50282
    bos_token_id: int | None = 50281
    cls_token_id: int | None = 50281
    sep_token_id: int | None = 50282
    attention_bias: bool = False
    attention_dropout: float = 0.0
    local_attention: int = 128  # tokens that a local layer sees: half of them on each side
    embedding_dropout: float = 0.0
    mlp_bias: bool = False
    mlp_dropout: float = 0.0
    decoder_bias: bool = True
    classifier_pooling: str = "cls"
    classifier_dropout: float = 0.0
    classifier_bias: bool = False
    classifier_activation: str = "gelu"
    sparse_prediction: bool = False  # with labels, logits of the tokens that have one only
    sparse_pred_ignore_index: int = -100
    # the spelling of Transformers 4, then that of 5
    global_attn_every_n_layers: int | None = 3  # None: layer_types repeat nothing
    global_rope_theta: float = 160_000.0
    local_rope_theta: float | None = 10_000.0  # None: global_rope_theta
    layer_types: list[str] | None = None
    rope_parameters: dict[str, Any] | None = None  # kind of layer -> rope_type, rope_theta
    # ways of computing, which change nothing here
    deterministic_flash_attn: bool = False
    reference_compile: bool | None = None
    repad_logits_with_grad: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # what was made of this before; validate() makes it anew
        if name in ("num_hidden_layers", "global_attn_every_n_layers"):
            super().__setattr__("layer_types", None)
        if name in ("global_rope_theta", "local_rope_theta"):
            super().__setattr__("rope_parameters", None)

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
        if H < 1 or C % (2 * H):
            raise ValueError(f"hidden_size ({C}) must be an even multiple of num_attention_heads ({H}).")
        for name in ("local_attention", "initializer_cutoff_factor", "local_rope_theta"):
            if (value := vars(self)[name]) is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        if self.classifier_pooling not in ("cls", "mean"):
            raise ValueError(f"classifier_pooling must be 'cls' or 'mean', got {self.classifier_pooling!r:.100}.")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, of a vocabulary of {self.vocab_size}.")
        self._validate_layer_types()
        self._validate_rope()

    def _validate_layer_types(self) -> None:
        L, n, kinds = self.num_hidden_layers, self.global_attn_every_n_layers, self.layer_types
        if kinds is None:
            if n is None or n < 1:
                raise ValueError(f"global_attn_every_n_layers must be at least 1, got {n}; or give layer_types.")
            kinds = every(n, L)
        kinds = list(kinds)
        if len(kinds) != L or set(kinds) - {FULL, SLIDING}:
            raise ValueError(f"layer_types must be {FULL!r} or {SLIDING!r} for {L} layers, got {kinds!r:.200}.")
        if n is None or n < 1 or kinds != every(n, L):
            n = kinds.index(FULL, 1) if FULL in kinds[1:] else max(L, 1)
        super().__setattr__("global_attn_every_n_layers", n if kinds == every(n, L) else None)
        super().__setattr__("layer_types", kinds)

    def _validate_rope(self) -> None:
        thetas = {FULL: self.global_rope_theta, SLIDING: self.local_rope_theta or self.global_rope_theta}
        given = self.rope_parameters or {}
        if strange := [kind for kind, rope in given.items() if kind not in thetas or not isinstance(rope, dict | None)]:
            raise ValueError(
                f"rope_parameters must have a dictionary for {' and '.join(thetas)}, got {strange!r:.200}."
            )
        ropes = {kind: read_rope(given.get(kind) or {}, rope_theta=theta) for kind, theta in thetas.items()}
        if any(rope["rope_type"] != "default" for rope in ropes.values()):
            raise ValueError(f"rope_parameters must be of rope_type 'default', got {given!r:.200}.")
        super().__setattr__("rope_parameters", ropes)
        super().__setattr__("global_rope_theta", ropes[FULL]["rope_theta"])
        if ropes[SLIDING]["rope_theta"] != (self.local_rope_theta or self.global_rope_theta):
            super().__setattr__("local_rope_theta", ropes[SLIDING]["rope_theta"])


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers, for each kind of them."""

    attend: dict[str, Attend]
    rotary: dict[str, tuple[Tensor, Tensor]]  # cosines and sines, [B or 1, 1, T, D]


class ModernBertEmbeddings(nn.Module):
    def __init__(self, config: ModernBertConfig):
        super().__init__()
        C = config.hidden_size
        self.tok_embeddings = nn.Embedding(config.vocab_size, C, padding_idx=config.pad_token_id)
        self.norm = nn.LayerNorm(C, eps=config.norm_eps, bias=config.norm_bias)
        self.drop = nn.Dropout(config.embedding_dropout)

    def forward(self, input_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        return self.drop(self.norm(self.tok_embeddings(input_ids) if inputs_embeds is None else inputs_embeds))


class ModernBertMLP(nn.Module):
    """One half of what Wi makes is activated and lets the other half through (GeGLU)."""

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.Wi = nn.Linear(C, 2 * inner, bias=config.mlp_bias)
        self.act = activation(config.hidden_activation)
        self.drop = nn.Dropout(config.mlp_dropout)
        self.Wo = nn.Linear(inner, C, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = project(x, self.Wi)[0].chunk(2, dim=-1)
        return project(self.drop(self.act(x) * gate), self.Wo)[0]


class ModernBertAttention(nn.Module):
    def __init__(self, config: ModernBertConfig, kind: str):
        super().__init__()
        C = config.hidden_size
        self.Wqkv = nn.Linear(C, 3 * C, bias=config.attention_bias)
        self.Wo = nn.Linear(C, C, bias=config.attention_bias)
        self.out_drop = nn.Dropout(config.attention_dropout)
        self.heads, self.kind, self.dropout = config.num_attention_heads, kind, config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        q, k, v = project(x, self.Wqkv)[0].view(B, T, 3, self.heads, -1).transpose(1, 3).unbind(2)  # [B, H, T, D]
        q, k = apply_rotary(q, k, *this.rotary[self.kind])
        x = this.attend[self.kind](
            q, k, v, scale=(C // self.heads) ** -0.5, dropout=self.dropout if self.training else 0.0
        )
        return self.out_drop(project(x.transpose(1, 2).reshape(B, T, C), self.Wo)[0])


class ModernBertEncoderLayer(nn.Module):
    def __init__(self, config: ModernBertConfig, layer: int):
        super().__init__()
        assert config.layer_types is not None  # validate() has filled it
        C, eps, bias = config.hidden_size, config.norm_eps, config.norm_bias
        # the embeddings, which the first layer reads, are normalised already
        self.attn_norm = nn.LayerNorm(C, eps=eps, bias=bias) if layer else nn.Identity()
        self.attn = ModernBertAttention(config, config.layer_types[layer])
        self.mlp_norm = nn.LayerNorm(C, eps=eps, bias=bias)
        self.mlp = ModernBertMLP(config)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.attn(self.attn_norm(x), this)
        return x + self.mlp(self.mlp_norm(x))


class ModernBertPredictionHead(nn.Module):
    """What all heads put between the hidden states and their logits."""

    def __init__(self, config: ModernBertConfig):
        super().__init__()
        C = config.hidden_size
        self.dense = nn.Linear(C, C, bias=config.classifier_bias)
        self.act = activation(config.classifier_activation)
        self.norm = nn.LayerNorm(C, eps=config.norm_eps, bias=config.norm_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(activate(self.dense, self.act, x))


# ---- Models


class ModernBertPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = ModernBertConfig, "model", True
    config: ModernBertConfig
    prepared = r"layers\.\d+\."
    may_be_new = (r"^head\.", r"^decoder\.", r"^classifier\.")

    def init_weights(self, module: nn.Module) -> None:
        config, std = self.config, self.config.initializer_range
        name = next((name for name, one in self.named_modules() if one is module), "")
        if name.endswith(("Wo", "dense", "decoder")):
            std /= (2 * max(config.num_hidden_layers, 1)) ** 0.5  # as many are summed up in the residual stream
        elif name == "classifier":
            std = config.hidden_size**-0.5
        if isinstance(module, (nn.Linear, nn.Embedding)):
            cut = config.initializer_cutoff_factor or 3
            nn.init.trunc_normal_(module.weight, 0.0, 1.0, -cut, cut).mul_(std)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            module.bias.zero_()


class ModernBertModel(ModernBertPreTrainedModel):
    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.embeddings = ModernBertEmbeddings(config)
        self.layers = nn.ModuleList(ModernBertEncoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.final_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.norm_bias)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.tok_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.tok_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place.

        attention_mask [B, T]: 1 = real token; see attention.dense_mask for other shapes (a 4-D mask says everything,
        local attention too); Packed for one row of concatenated sequences. output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, 0, device)

        x = self.embeddings(input_ids, inputs_embeds)
        assert config.rope_parameters is not None and config.layer_types is not None  # validate() has filled them
        windows = {FULL: None, SLIDING: config.local_attention // 2 + 1}  # counted with the token itself
        attend, rotary = {}, {}
        for kind in sorted(set(config.layer_types)):
            attend[kind] = bind_attention(
                kernel,
                Q=T,
                K=T,
                causal=False,
                mask=attention_mask,
                window=windows[kind],
                device=device,
                record=attentions,
            )
            D = config.hidden_size // config.num_attention_heads
            rotary[kind] = make_rotary(config.rope_parameters[kind], D, position_ids, attention_mask, x.dtype)
        this = Pass(attend, rotary)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = (x,)
        for layer in self.layers:
            again = self.gradient_checkpointing and self.training
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if again else layer(x, this)
            hidden_states = (*hidden_states, x) if states else (x,)
        x = self.final_norm(x)
        hidden_states = (*hidden_states[:-1], x)
        return BaseModelOutput(
            last_hidden_state=x,
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class ModernBertForMaskedLM(ModernBertPreTrainedModel):
    tied = {"decoder.weight": "model.embeddings.tok_embeddings.weight"}

    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.model = ModernBertModel(config)
        self.head = ModernBertPredictionHead(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size, bias=config.decoder_bias)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.decoder = new_embeddings  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for.

        logits [B, T, V]; with labels and config.sparse_prediction, of the tokens that have one only, [tokens, V].
        """
        encoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x = encoded.last_hidden_state
        if self.config.sparse_prediction and labels is not None:
            asked = labels.to(x.device) != self.config.sparse_pred_ignore_index
            x, labels = x[asked], labels[asked.to(labels.device)]
        logits = self.decoder(self.head(x))
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ModernBertForSequenceClassification(ModernBertPreTrainedModel):
    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.model = ModernBertModel(config)
        self.head = ModernBertPredictionHead(config)
        self.drop = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        encoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x = pool(encoded.last_hidden_state, attention_mask, self.config.classifier_pooling)
        logits = self.classifier(self.drop(self.head(x)))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ModernBertForMultipleChoice(ModernBertPreTrainedModel):
    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.model = ModernBertModel(config)
        self.head = ModernBertPredictionHead(config)
        self.drop = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MultipleChoiceModelOutput:
        """All inputs have a dimension of choices, [B, S, T]; labels [B]: the right choice. logits [B, S]."""
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or given.dim() < 3:
            raise ValueError("Multiple choice takes input_ids of shape [B, S, T], or inputs_embeds of [B, S, T, C].")
        inputs = (input_ids, attention_mask, position_ids, inputs_embeds)
        input_ids, attention_mask, position_ids, inputs_embeds = (
            None if one is None else one.flatten(0, 1) for one in inputs
        )
        encoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x = pool(encoded.last_hidden_state, attention_mask, self.config.classifier_pooling)
        logits = self.classifier(self.drop(self.head(x))).view(given.shape[:2])  # [B, S]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ModernBertForTokenClassification(ModernBertPreTrainedModel):
    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.model = ModernBertModel(config)
        self.head = ModernBertPredictionHead(config)
        self.drop = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T], -100 where none."""
        encoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.drop(self.head(encoded.last_hidden_state)))  # [B, T, N]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ModernBertForQuestionAnswering(ModernBertPreTrainedModel):
    def __init__(self, config: ModernBertConfig):
        super().__init__(config)
        self.model = ModernBertModel(config)
        self.head = ModernBertPredictionHead(config)
        self.drop = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: first and last token of the answer."""
        encoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.drop(self.head(encoded.last_hidden_state)))
        start, end = logits.unbind(-1)  # [B, T] each
        loss = count = None
        if start_positions is not None and end_positions is not None:
            loss, count = span_loss(start, end, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss, start, end, encoded.hidden_states, encoded.attentions, loss_count=count
        )


def pool(x: Tensor, mask: Tensor | Packed | None, how: str) -> Tensor:
    """[B, C] of x [B, T, C]: each sequence's first token, or the mean of its tokens."""
    return first_token(x, mask) if how == "cls" else mean_tokens(x, mask)


HEADS = {
    "base": ModernBertModel,
    "masked-lm": ModernBertForMaskedLM,
    "sequence-classification": ModernBertForSequenceClassification,
    "multiple-choice": ModernBertForMultipleChoice,
    "token-classification": ModernBertForTokenClassification,
    "question-answering": ModernBertForQuestionAnswering,
}
