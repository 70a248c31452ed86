// Models with random weights in the shape of real ones: for benchmarks and tests on machines that have no model.
//
// They load in stock libllama, their tokenizer and chat template work, activations stay near unit variance, and every
// byte follows from the specification. What they say is pseudo-words; how they route is described at the two routing
// parameters below.
#pragma once

#include "base/status.h"
#include "gguf/writer.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::gguf {

struct SyntheticSpec {
    std::string architecture = "qwen3moe";  // one of synthetic_architectures()
    std::string name = "synthetic";
    uint64_t layers = 4;
    uint64_t experts = 0;  // 0: dense
    uint64_t experts_used = 0;
    uint64_t embedding = 2048;
    uint64_t feed_forward = 1536;  // of one expert, in a mixture
    uint64_t heads = 16;
    uint64_t kv_heads = 4;
    uint64_t head_dim = 128;
    uint64_t vocabulary = 32000;
    uint64_t context = 32768;
    std::string quantization = "q4_K";  // one of synthetic_quantizations()
    uint64_t seed = 1;

    // Popularity of experts. Every token embedding holds a small part of one shared direction, and each router row
    // holds -skew * ln(rank) of it, with another order of ranks in each layer. The rest of a logit is noise of about
    // the width of a Gumbel variable, so an expert's popularity falls roughly as rank^-skew. 0: nearly uniform.
    double router_skew = 0;

    // Re-use of experts from token to token, 0 to 0.95: the share of an embedding's variance that comes from its topic
    // (there are 64, dealt out by token number). The output layer prefers tokens of the current topic, so that
    // generated text stays on one for about ten tokens, and its routers see a common part for as long. That works on
    // what the model generates; the tokens of a typed prompt change topics at random.
    //
    // What routing comes to (64 experts, 4 used; 400 tokens sampled at temperature 0.8):
    //   skew  locality  next token re-uses  busiest quarter of the experts serves
    //   0     0          6 % (chance)       33 %
    //   0.5   0         14 %                63 %
    //   1     0         31 %                85 %
    //   0     0.3       14 %                39 %
    //   0     0.6       33 %                47 %
    //   0     0.9       64 %                53 %
    //   0.5   0.3       27 %                64 %
    // Greedy text varies less and may end in a loop, as real models' does: sample when measuring caches.
    double locality = 0;
};

std::span<const std::string_view> synthetic_architectures();
// An element type for all matrices ("q4_K"), or a mix by llama.cpp's rules ("q4_k_m").
std::span<const std::string_view> synthetic_quantizations();

struct SyntheticPreset {
    std::string_view name;
    std::string_view description;
    SyntheticSpec spec;
};
std::span<const SyntheticPreset> synthetic_presets();
Result<SyntheticSpec> synthetic_preset(std::string_view name);

// The three arguments of write_model. `fill` does not depend on how the writer cuts chunks.
struct SyntheticModel {
    Metadata metadata;
    std::vector<TensorSpec> tensors;
    FillTensor fill;

    uint64_t tensor_bytes() const;
};

// `threads` share the work of each chunk and do not change the result.
Result<SyntheticModel> synthesize(const SyntheticSpec& spec, uint32_t threads = 1);

}  // namespace hypura::gguf
