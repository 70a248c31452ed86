#include "gguf/synthetic.h"

#include <algorithm>
#include <array>
#include <format>
#include <string>

namespace hypura::gguf {
namespace {

// Shapes from the published configurations; "lab" ones are sized for machines with 16 to 24 GiB of memory.
const std::array kPresets = {
    SyntheticPreset{"mixtral-8x7b",
                    "8 experts, 2 used, Q4_K_M",
                    {.architecture = "mixtral",
                     .name = "synthetic mixtral-8x7b",
                     .layers = 32,
                     .experts = 8,
                     .experts_used = 2,
                     .embedding = 4096,
                     .feed_forward = 14336,
                     .heads = 32,
                     .kv_heads = 8,
                     .head_dim = 128,
                     .vocabulary = 32000,
                     .context = 32768,
                     .quantization = "q4_k_m"}},
    SyntheticPreset{"llama-3.3-70b",
                    "dense, Q4_K_M",
                    {.architecture = "llama",
                     .name = "synthetic llama-3.3-70b",
                     .layers = 80,
                     .embedding = 8192,
                     .feed_forward = 28672,
                     .heads = 64,
                     .kv_heads = 8,
                     .head_dim = 128,
                     .vocabulary = 128256,
                     .context = 131072,
                     .quantization = "q4_k_m"}},
    SyntheticPreset{"qwen2.5-14b",
                    "dense, Q4_K_M",
                    {.architecture = "qwen2",
                     .name = "synthetic qwen2.5-14b",
                     .layers = 48,
                     .embedding = 5120,
                     .feed_forward = 13824,
                     .heads = 40,
                     .kv_heads = 8,
                     .head_dim = 128,
                     .vocabulary = 152064,
                     .context = 32768,
                     .quantization = "q4_k_m"}},
    SyntheticPreset{"qwen3-30b-a3b",
                    "128 experts, 8 used, Q4_K_M",
                    {.architecture = "qwen3moe",
                     .name = "synthetic qwen3-30b-a3b",
                     .layers = 48,
                     .experts = 128,
                     .experts_used = 8,
                     .embedding = 2048,
                     .feed_forward = 768,
                     .heads = 32,
                     .kv_heads = 4,
                     .head_dim = 128,
                     .vocabulary = 151936,
                     .context = 40960,
                     .quantization = "q4_k_m"}},
    SyntheticPreset{"gpt-oss-120b",
                    "128 experts, 4 used, MXFP4",
                    {.architecture = "gpt-oss",
                     .name = "synthetic gpt-oss-120b",
                     .layers = 36,
                     .experts = 128,
                     .experts_used = 4,
                     .embedding = 2880,
                     .feed_forward = 2880,
                     .heads = 64,
                     .kv_heads = 8,
                     .head_dim = 64,
                     .vocabulary = 201088,
                     .context = 131072,
                     .quantization = "mxfp4"}},
    SyntheticPreset{"lab-moe-8g",
                    "8.4 GB, 64 experts, 4 used, Q4_K",
                    {.architecture = "qwen3moe",
                     .name = "synthetic lab-moe-8g",
                     .layers = 24,
                     .experts = 64,
                     .experts_used = 4,
                     .embedding = 2048,
                     .feed_forward = 1536,
                     .heads = 16,
                     .kv_heads = 4,
                     .head_dim = 128,
                     .vocabulary = 32000,
                     .context = 32768,
                     .quantization = "q4_K"}},
    SyntheticPreset{"lab-dense-5g",
                    "5.2 GB, dense, Q4_K",
                    {.architecture = "llama",
                     .name = "synthetic lab-dense-5g",
                     .layers = 40,
                     .embedding = 4096,
                     .feed_forward = 14336,
                     .heads = 32,
                     .kv_heads = 8,
                     .head_dim = 128,
                     .vocabulary = 38400,
                     .context = 32768,
                     .quantization = "q4_K"}},
};

std::string preset_names() {
    std::string names;
    for (const SyntheticPreset& preset : kPresets) names += std::format("{}{}", names.empty() ? "" : ", ", preset.name);
    return names;
}

}  // namespace

std::span<const SyntheticPreset> synthetic_presets() { return kPresets; }

Result<SyntheticSpec> synthetic_preset(std::string_view name) {
    const auto found = std::ranges::find(kPresets, name, &SyntheticPreset::name);
    if (found != kPresets.end()) return found->spec;
    return fail(ErrorCode::kInvalidArgument, "there is no preset '{}'; choose one of {}", name, preset_names());
}

}  // namespace hypura::gguf
