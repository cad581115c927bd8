"""NomicBert: a BERT for long texts, with rotary positions and gated layers; text embeddings rest on it.

Paper: Nussbaum et al., 2024, https://arxiv.org/abs/2402.01613
Reference code: https://huggingface.co/nomic-ai/nomic-bert-2048
Shapes: B batch, T tokens, C hidden_size, H heads, D head_dim, V vocab_size, N labels, L layers.

Weights bear their published names in memory too (Wqkv, fc11, …). The config is read in the published spelling (n_embd,
rotary_emb_base, …) and in that of Transformers 5 (hidden_size, rope_parameters, …); what is set last of two spellings
counts, and the other follows. Different from Transformers: positions count from the first real token, and the pooled
token is that one, so padding on the left changes nothing; rotary_scaling_factor is honoured, and with it each sequence
is stretched by its own length, whatever batch it is in; biases that the config asks for are there.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..config import Config
from ..linear import activate, project
from ..losses import sequence_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import BaseModelOutputWithPooling, MaskedLMOutput, SequenceClassifierOutput, TokenClassifierOutput
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, first_token, make_position_ids

# ---- Configuration

# fields of published configs that ask for another network, and the only value that this file has code for
FIXED = {
    "activation_function": (None, "swiglu"),
    "causal": (False,),
    "moe_every_n_layers": (0,),
    "norm_mlp": (False,),
    "parallel_block": (False,),
    "prenorm": (False,),
    "rotary_emb_fraction": (1,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "use_rms_norm": (False,),
}


@dataclass(init=False)
class NomicBertConfig(Config):
    model_type = "nomic_bert"
    attribute_map = {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "resid_pdrop": "hidden_dropout_prob",
        "attn_pdrop": "attention_probs_dropout_prob",
        "layer_norm_epsilon": "layer_norm_eps",
        "rope_theta": "rotary_emb_base",
        "rope_scaling": "rope_parameters",
    }

    vocab_size: int = 30528
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "silu"  # of the gate
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 2048
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    classifier_dropout: float | None = None  # None: hidden_dropout_prob
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    n_positions: int | None = None  # tokens of the longest input; None: max_position_embeddings
    max_trained_positions: int | None = None  # None: max_position_embeddings
    # the published spelling, then that of Transformers 5
    rotary_emb_base: float = 1000.0
    rotary_scaling_factor: float | None = (
        None  # stretches what is longer than the trained positions; None: nothing does
    )
    rope_parameters: dict[str, Any] | None = None
    qkv_proj_bias: bool = False
    mlp_fc1_bias: bool = False
    mlp_fc2_bias: bool = False
    activation_function: str | None = None  # swiglu: a hidden_act of silu
    causal: bool = False
    moe_every_n_layers: int = 0
    norm_mlp: bool = False
    parallel_block: bool = False
    prenorm: bool = False
    rotary_emb_fraction: float = 1.0
    rotary_emb_interleaved: bool = False
    rotary_emb_scale_base: float | None = None
    use_rms_norm: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        # what was made of this before; validate() makes it anew
        if self.attribute_map.get(name, name) in (
            "rotary_emb_base",
            "rotary_scaling_factor",
            "max_trained_positions",
            "max_position_embeddings",
        ):
            super().__setattr__("rope_parameters", None)

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
        if H < 1 or (self.head_dim is None and C % H) or self.head_size % 2:
            raise ValueError(
                f"hidden_size ({C}) must be an even multiple of num_attention_heads ({H}), or head_dim "
                f"({self.head_dim}) be even."
            )
        for name, allowed in FIXED.items():
            if vars(self)[name] not in allowed:
                raise ValueError(f"{name} must be {allowed[-1]!r}, got {vars(self)[name]!r}: there is no code for it.")
        if self.activation_function == "swiglu" and self.hidden_act not in ("silu", "swish"):
            raise ValueError(f"activation_function 'swiglu' is a hidden_act of 'silu', got {self.hidden_act!r:.100}.")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, of a vocabulary of {self.vocab_size}.")
        if self.type_vocab_size < 1:
            raise ValueError(f"type_vocab_size must be at least 1, got {self.type_vocab_size}.")
        rope: dict[str, Any] = {"rope_theta": self.rotary_emb_base}
        rope["original_max_position_embeddings"] = self.max_trained_positions or self.max_position_embeddings
        if self.rope_parameters is None and self.rotary_scaling_factor is not None:
            rope |= {"rope_type": "dynamic", "factor": self.rotary_scaling_factor}
        rope = read_rope(self.rope_parameters or {}, **rope)
        if rope["rope_type"] not in ("default", "dynamic") or "partial_rotary_factor" in rope:
            raise ValueError(f"rope_parameters must turn whole heads, by default or dynamic, got {rope!r:.200}.")
        if rope["rope_type"] == "dynamic" and self.head_size < 4:
            raise ValueError(f"Heads of size {self.head_size} cannot be stretched: leave out rotary_scaling_factor.")
        super().__setattr__("rope_parameters", rope)
        super().__setattr__("rotary_emb_base", rope["rope_theta"])
        super().__setattr__("rotary_scaling_factor", rope["factor"] if rope["rope_type"] == "dynamic" else None)

    @property
    def head_size(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def longest_input(self) -> int:
        return self.n_positions or self.max_position_embeddings


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]


class NomicBertEmbeddings(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)

    def forward(self, input_ids: Tensor | None, token_type_ids: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if token_type_ids is None:
            return x + self.token_type_embeddings.weight[0]
        return x + self.token_type_embeddings(token_type_ids)


class NomicBertAttention(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        C, inner, bias = config.hidden_size, config.num_attention_heads * config.head_size, config.qkv_proj_bias
        self.Wqkv = nn.Linear(C, 3 * inner, bias=bias)
        self.out_proj = nn.Linear(inner, C, bias=bias)
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, _ = x.shape
        q, k, v = project(x, self.Wqkv)[0].view(B, T, 3, self.heads, -1).transpose(1, 3).unbind(2)  # [B, H, T, D]
        q, k = apply_rotary(q, k, *this.rotary)
        x = this.attend(q, k, v, scale=q.shape[-1] ** -0.5, dropout=self.dropout if self.training else 0.0)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.out_proj)[0]


class NomicBertMLP(nn.Module):
    """fc12, activated, is the gate that lets fc11 through (SwiGLU)."""

    def __init__(self, config: NomicBertConfig):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.fc11 = nn.Linear(C, inner, bias=config.mlp_fc1_bias)
        self.fc12 = nn.Linear(C, inner, bias=config.mlp_fc1_bias)
        self.fc2 = nn.Linear(inner, C, bias=config.mlp_fc2_bias)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = project(x, self.fc11, self.fc12)
        return project(x * self.act(gate), self.fc2)[0]


class NomicBertLayer(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.attn = NomicBertAttention(config)
        self.mlp = NomicBertMLP(config)
        self.norm1 = nn.LayerNorm(C, eps=eps)
        self.norm2 = nn.LayerNorm(C, eps=eps)
        self.drop = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = self.norm1(x + self.drop(self.attn(x, this)))
        return self.norm2(x + self.drop(self.mlp(x)))


class NomicBertEncoder(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        self.layers = nn.ModuleList(NomicBertLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x: Tensor, this: Pass, keep: bool, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the input, then the output of every layer; unless keep, the last alone."""
        hidden_states = (x,)
        for layer in self.layers:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if checkpointing else layer(x, this)
            hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


class NomicBertPooler(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return torch.tanh(self.dense(x))


class NomicBertPredictionHeadTransform(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer_norm(activate(self.dense, self.act, x))


class NomicBertLMPredictionHead(nn.Module):
    """Hidden states -> logits over the vocabulary. The bias stands under two names in checkpoints."""

    def __init__(self, config: NomicBertConfig):
        super().__init__()
        self.transform = NomicBertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class NomicBertOnlyMLMHead(nn.Module):
    def __init__(self, config: NomicBertConfig):
        super().__init__()
        self.predictions = NomicBertLMPredictionHead(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.predictions(x)


# ---- Models


class NomicBertPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = NomicBertConfig, "nomic_bert", True
    config: NomicBertConfig
    # bert: where the heads of the published code keep the base model; inv_freq: a buffer of its first version
    renames = ((r"^bert\.", "nomic_bert."), (r"\.inv_freq$", None))
    prepared = r"encoder\.layers\.\d+\."
    together = r"\.mlp\.fc1[12]$"
    # its masked language models lack the biases of the head, which then are zero
    may_be_new = (r"^(nomic_bert\.)?pooler\.", r"^classifier\.", r"^cls\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm, NomicBertLMPredictionHead)) and module.bias is not None:
            module.bias.zero_()


class NomicBertModel(NomicBertPreTrainedModel):
    def __init__(self, config: NomicBertConfig, add_pooling_layer: bool = False):
        super().__init__(config)
        self.embeddings = NomicBertEmbeddings(config)
        self.emb_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.emb_drop = nn.Dropout(config.hidden_dropout_prob)
        self.encoder = NomicBertEncoder(config)
        self.pooler = NomicBertPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place; token_type_ids [B, T], 0 or 1.

        attention_mask [B, T]: 1 = real token; see attention.dense_mask for other shapes; Packed for one row of
        concatenated sequences. output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, 0, device)

        attend = bind_attention(kernel, Q=T, K=T, causal=False, mask=attention_mask, device=device, record=attentions)
        x = self.emb_drop(self.emb_ln(self.embeddings(input_ids, token_type_ids, inputs_embeds)))
        assert config.rope_parameters is not None  # validate() has filled it
        rotary = make_rotary(config.rope_parameters, config.head_size, position_ids, attention_mask, x.dtype)
        this = Pass(attend, rotary)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = self.encoder(x, this, states, self.gradient_checkpointing and self.training)
        x = hidden_states[-1]
        return BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(first_token(x, attention_mask)),
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class NomicBertForMaskedLM(NomicBertPreTrainedModel):
    tied = {"cls.predictions.decoder.weight": "nomic_bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: NomicBertConfig):
        super().__init__(config)
        self.nomic_bert = NomicBertModel(config)
        self.cls = NomicBertOnlyMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings  # type: ignore[assignment]
        self.cls.predictions.bias = new_embeddings.bias  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for."""
        encoded = self.nomic_bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x, parts = encoded.last_hidden_state, self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.cls, x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class NomicBertForSequenceClassification(NomicBertPreTrainedModel):
    def __init__(self, config: NomicBertConfig):
        super().__init__(config)
        self.nomic_bert = NomicBertModel(config, add_pooling_layer=True)
        self.dropout = nn.Dropout(classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        encoded = self.nomic_bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class NomicBertForTokenClassification(NomicBertPreTrainedModel):
    def __init__(self, config: NomicBertConfig):
        super().__init__(config)
        self.nomic_bert = NomicBertModel(config)
        self.dropout = nn.Dropout(classifier_dropout(config))
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T], -100 where none."""
        encoded = self.nomic_bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))  # [B, T, N]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


def classifier_dropout(config: NomicBertConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


HEADS = {
    "base": NomicBertModel,
    "masked-lm": NomicBertForMaskedLM,
    "sequence-classification": NomicBertForSequenceClassification,
    "token-classification": NomicBertForTokenClassification,
}
