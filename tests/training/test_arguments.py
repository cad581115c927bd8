"""TrainingArguments: every name that code for Transformers uses is known; what is wrong is named."""

import json

import pytest

from plainformers import Seq2SeqTrainingArguments, TrainingArguments
from plainformers.aliases import ALIASES, WITHOUT_EFFECT
from plainformers.training.arguments import REFUSED, reworded

# the fields of transformers 5.23.0, and those that 4.57.6 had beside them
V5 = """
output_dir per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon optim_target_modules
gradient_accumulation_steps average_tokens_across_devices max_grad_norm label_smoothing_factor bf16 fp16 bf16_full_eval
fp16_full_eval tf32 activation_checkpointing activation_checkpointing_kwargs gradient_checkpointing
gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode use_liger_kernel
liger_kernel_config use_cache neftune_noise_alpha torch_empty_cache_steps auto_find_batch_size logging_strategy
logging_steps logging_first_step log_on_each_node logging_nan_inf_filter include_num_input_tokens_seen log_level
log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id trackio_static_space_id
eval_strategy eval_steps eval_delay per_device_eval_batch_size prediction_loss_only eval_on_start
eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics batch_eval_metrics
save_only_model save_strategy save_steps save_on_each_node save_total_limit enable_jit_checkpoint push_to_hub
hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision load_best_model_at_end
metric_for_best_model greater_is_better ignore_data_skip restore_callback_states_from_checkpoint full_determinism seed
data_seed use_cpu accelerator_config parallelism_config dataloader_drop_last dataloader_num_workers
dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context
dataloader_in_order remove_unused_columns label_names train_sampling_strategy length_column_name
ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp
fsdp_config deepspeed debug skip_memory_metrics do_train do_eval do_predict resume_from_checkpoint local_rank
"""
V4 = """
overwrite_output_dir evaluation_strategy per_gpu_train_batch_size per_gpu_eval_batch_size warmup_ratio logging_dir
save_safetensors no_cuda use_mps_device jit_mode_eval fp16_opt_level half_precision_backend tpu_num_cores
tpu_metrics_debug past_index fsdp_min_num_params fsdp_transformer_layer_cls_to_wrap adafactor group_by_length
use_legacy_prediction_loop include_inputs_for_metrics fp16_backend push_to_hub_model_id push_to_hub_organization
push_to_hub_token mp_parameters torchdynamo ray_scope include_tokens_per_second
"""


def test_every_known_name_is_supported_or_refused_with_a_reason():
    fields = TrainingArguments.__dataclass_fields__.keys()
    words = {name for name in V4.split() if name not in reworded(dict.fromkeys(V4.split(), True))}
    known = {*fields, *REFUSED, *ALIASES["training"], *WITHOUT_EFFECT["training"], *words}
    assert len(V5.split()) >= 114 and set(V5.split() + V4.split()) <= known
    assert not REFUSED.keys() & fields and set(ALIASES["training"].values()) <= fields
    for name, (nothing, why) in REFUSED.items():
        TrainingArguments("out", **{name: nothing[0]})
        with pytest.raises(ValueError, match=f"{name} is not supported: {why[:20]}"):
            TrainingArguments("out", **{name: object()})


def test_spellings_of_version_4_mean_the_same():
    args = TrainingArguments(
        "out", evaluation_strategy="epoch", warmup_ratio=0.1, no_cuda=True, group_by_length=True, adafactor=True,
        include_inputs_for_metrics=True, per_gpu_train_batch_size=3, push_to_hub_model_id="a/b", use_mps_device=True,
    )  # fmt: skip
    assert (args.eval_strategy, args.use_cpu, args.optim) == ("epoch", True, "adafactor")
    assert (args.train_sampling_strategy, args.include_for_metrics) == ("group_by_length", ["inputs"])
    assert (args.per_device_train_batch_size, args.hub_model_id) == (3, "a/b")
    assert args.get_warmup_steps(105) == 11 and TrainingArguments(warmup_steps=5).get_warmup_steps(105) == 5
    with pytest.raises(TypeError, match="got 'eval_strategy' twice"):
        TrainingArguments("out", evaluation_strategy="no", eval_strategy="no")


def test_unknown_names_and_wrong_values_are_named():
    with pytest.raises(TypeError, match="no argument 'learning_rat'. Did you mean 'learning_rate'"):
        TrainingArguments("out", learning_rat=1)
    with pytest.raises(AttributeError, match="no 'learning_rat'. Did you mean 'learning_rate'"):
        TrainingArguments("out").learning_rat = 1
    for name, value, words in [
        ("learning_rate", -1.0, "must be in"),
        ("learning_rate", "fast", "must be float"),
        ("per_device_train_batch_size", 0, "must be in"),
        ("eval_strategy", "step", "'no' or 'steps' or 'epoch'"),
        ("num_train_epochs", 0, "must be in"),
        ("save_steps", 1.5, "whole number or a fraction"),
        ("max_steps", 0, "would train nothing"),
        ("dataloader_prefetch_factor", 2, "needs dataloader_num_workers"),
        ("load_best_model_at_end", True, "needs eval_strategy and save_strategy to be the same"),
    ]:
        with pytest.raises(ValueError, match=f"{name}.*{words}"):
            TrainingArguments("out", **{name: value})
    with pytest.raises(ValueError, match="bf16 and fp16 exclude"):
        TrainingArguments("out", bf16=True, fp16=True)
    with pytest.raises(ValueError, match="save_steps=3 to be a multiple of eval_steps=2"):
        steps = {"eval_strategy": "steps", "save_strategy": "steps", "load_best_model_at_end": True}
        TrainingArguments("out", eval_steps=2, save_steps=3, **steps)


def test_settings_are_data(tmp_path):
    args = TrainingArguments(str(tmp_path), hub_token="secret", lr_scheduler_kwargs='{"num_cycles": 2}')
    values = json.loads(args.to_json_string())
    assert values["hub_token"] == "<HUB_TOKEN>" and values["lr_scheduler_kwargs"] == {"num_cycles": 2}
    assert values.keys() == TrainingArguments.__dataclass_fields__.keys()
    assert all(isinstance(v, (bool, int, float, str)) for v in args.to_sanitized_dict().values())
    assert (args.world_size, args.process_index, args.should_save, args.n_gpu) == (1, 0, True, 0) or args.n_gpu
    with args.main_process_first():
        pass
    more = Seq2SeqTrainingArguments("out", predict_with_generate=True, generation_max_length=9, sortish_sampler=True)
    assert more.train_sampling_strategy == "group_by_length" and more.generation_max_length == 9
    assert TrainingArguments("out", metric_for_best_model="eval_loss").greater_is_better is False
    assert TrainingArguments("out", metric_for_best_model="f1").greater_is_better is True
