#pragma once

#include <cstdint>
#include <filesystem>

#include "ringtrain/comm/world.h"
#include "ringtrain/config/model_config.h"
#include "ringtrain/core/dtype.h"
#include "ringtrain/parallel/context.h"
#include "ringtrain/parallel/parameter_table.h"

/// Parameters as a Hugging Face directory: config.json, generation_config.json and
/// model.safetensors, or model-0000x-of-0000y.safetensors with model.safetensors.index.json.
/// Names and the half-split RoPE convention are Hugging Face's throughout the program, so nothing
/// is renamed or permuted.
namespace ringtrain {

/// Fills this rank's shards of the masters from the fp32, bf16 or fp16 tensors in `directory`,
/// reading only the elements it holds; padding becomes zero. Works for any mesh; not collective.
/// A tied model may carry an lm_head.weight, and old models carry rotary_emb.inv_freq: both are
/// ignored.
/// Errors: IoError naming the file and tensors that are damaged, missing, not in the model or of
/// another shape (with both shapes).
void load_hf_parameters(const std::filesystem::path& directory, const ParameterTable& table,
                        Context& context, const ShardFamily& masters);

struct HfExport {
  DType dtype = DType::kBFloat16;             ///< of the tensors in the files: fp32, bf16 or fp16
  std::filesystem::path tokenizer_file = {};  ///< copied as tokenizer.model unless empty
  std::int64_t max_file_bytes = 5'000'000'000;
};

/// Collective over `world`: writes the files of a Hugging Face directory into `directory`, which
/// exists (see write_directory for the way to make it in one step). Tensors are gathered on rank 0
/// one at a time and written without padding.
/// Errors: IoError on all ranks, naming the path, if the disk is full or not writable.
void write_hf_checkpoint(World& world, const std::filesystem::path& directory,
                         const ModelConfig& config, const ParameterTable& table, Context& context,
                         const ShardFamily& masters, const HfExport& options);

}  // namespace ringtrain
