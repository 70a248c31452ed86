// Flags that several commands share, and their translation into the engine's options.
//
// Flags hold what was typed; the functions below check and convert. A percentage in a size means a share of the memory
// that this process may really use.
#pragma once

#include "base/status.h"
#include "cli/command.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "gguf/model_file.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace hypura::cli {

// ---- model, mode and budget ----------------------------------------------------------------------------------------

struct EngineFlags {
    std::string model_path;
    std::string mode = "auto";
    std::string ram = "auto";
    std::string weights;  // empty: what the RAM budget leaves
    std::string io = "auto";
    std::string fault;
    std::string cache_type = "f16";
    std::string profile_file;  // set by add_engine_flags
    uint32_t context_tokens = 0;
    std::optional<uint32_t> batch_tokens;
    uint32_t threads = 0;
    std::string devices = "auto";  // names between commas, "auto" or "none"
    std::string vram = "auto";
    std::optional<uint32_t> gpu_layers;
    std::string rpc_servers;  // host:port between commas
    std::string draft = "auto";
};

inline constexpr const char* kBatchHelp =
    "most prompt tokens a pass (default: 512, of a mixture on graphics cards up to 2048)";

std::vector<std::string> split_at_commas(std::string_view text);

// Predictions rest on the saved profile of `environment`.
void add_engine_flags(CLI::App& command, EngineFlags& flags, const Environment& environment);
// The same without the model and its context: for serve, which has several.
void add_memory_flags(CLI::App& command, EngineFlags& flags, const Environment& environment);

// For commands that generate text, or check what does.
void add_draft_flag(CLI::App& command, EngineFlags& flags);

// --kv: a type, or "auto", which allows all of them.
Result<std::vector<placement::CacheType>> parse_cache_flag(const std::string& text);

// `usable_bytes`: the memory that a percentage is taken of.
Result<engine::EngineOptions> to_engine_options(const EngineFlags& flags, uint64_t usable_bytes);
// The same with this machine's memory.
Result<engine::EngineOptions> to_engine_options(const EngineFlags& flags);

// The --io flag: auto, io_uring or pread.
Result<storage::ReaderKind> parse_reader_kind(const std::string& text);

// ---- sampling ------------------------------------------------------------------------------------------------------

struct SamplingFlags {
    std::optional<float> temperature;
    std::optional<int32_t> top_k;
    std::optional<float> top_p;
    std::optional<float> min_p;
    std::optional<float> repeat_penalty;
    std::optional<int64_t> seed;  // -1: random
};

void add_sampling_flags(CLI::App& command, SamplingFlags& flags);

// A flag wins over the model's general.sampling.* metadata, which wins over our defaults.
engine::SamplingOptions to_sampling_options(const SamplingFlags& flags, const gguf::Metadata& metadata);

// ---- small parsers -------------------------------------------------------------------------------------------------

// "1,2,3", or "@FILE" with numbers between commas and white space.
Result<std::vector<engine::Token>> parse_tokens(std::string_view text);

// The whole file; `path` "-" is standard input.
Result<std::string> read_text(const std::string& path);

}  // namespace hypura::cli
