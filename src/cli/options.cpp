#include "cli/options.h"

#include "base/bytes.h"
#include "cli/console.h"
#include "cli/profile_store.h"
#include "engine/machine_probe.h"
#include "hardware/memory.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <format>
#include <memory>
#include <ranges>
#include <type_traits>
#include <variant>

namespace hypura::cli {
namespace {

constexpr const char* kMemoryGroup = "Memory and reading";  // in --help
constexpr uint32_t kMostThreads = 512;                      // GGML_MAX_N_THREADS: libggml aborts beyond
constexpr const char* kDeviceGroup = "Graphics cards and other machines";

// ---- engine flags --------------------------------------------------------------------------------------------------

Result<engine::Mode> parse_mode_flag(const std::string& text) {
    if (const auto mode = engine::parse_mode(text)) return *mode;
    return fail(ErrorCode::kInvalidArgument, "--mode: '{}' is none of auto, resident, stream and mmap", text);
}

// `automatic`: the text that means 0, "decide for me". A plain 0 would mean the same to the engine, which is not what
// somebody who writes it wants to say.
Result<uint64_t> parse_budget_flag(const std::string& text, std::string_view automatic, uint64_t usable_bytes,
                                   std::string_view option) {
    if (text == automatic) return 0;
    HYPURA_ASSIGN(const uint64_t bytes, parse_size(text, usable_bytes, option));
    if (bytes == 0) return fail(ErrorCode::kInvalidArgument, "{}: the size must be more than zero", option);
    return bytes;
}

// "load:" before it: of the reads at the start, which fill what stays in memory.
Status parse_fault_flag(std::string_view text, engine::EngineOptions& options) {
    constexpr std::string_view kLoad = "load:";
    if (text.empty()) return {};
    const bool loading = text.starts_with(kLoad);
    if (loading) text.remove_prefix(kLoad.size());
    HYPURA_ASSIGN((loading ? options.load_fault : options.fault), storage::parse_fault_plan(text));
    return {};
}

std::string device_table() {
    constexpr std::string_view kRow = "{:<12}{:<12}{:>12}{:>12}  {}\n";
    std::string table = std::format(kRow, "device", "kind", "free", "memory", "");
    for (const placement::ComputeDevice& device : engine::list_devices())
        table += std::format(kRow, device.name, device.kind, format_bytes(device.free_bytes),
                             format_bytes(device.total_bytes), device.description);
    return table;
}

// ---- sampling metadata ---------------------------------------------------------------------------------------------

// Writers store these numbers as they like: a temperature of 0 may well be an integer.
template <class T>
std::optional<T> find_number(const gguf::Metadata& metadata, std::string_view key) {
    const auto entry = metadata.find(key);
    if (entry == metadata.end()) return std::nullopt;
    return std::visit(
        [](const auto& value) -> std::optional<T> {
            using V = std::decay_t<decltype(value)>;
            if constexpr (std::is_arithmetic_v<V> && !std::is_same_v<V, bool>) return static_cast<T>(value);
            return std::nullopt;
        },
        entry->second);
}

template <class T>
void choose(T& option, const std::optional<T>& flag, const gguf::Metadata& metadata, std::string_view key) {
    if (flag)
        option = *flag;
    else if (const auto stored = find_number<T>(metadata, key))
        option = *stored;
}

// ---- files ---------------------------------------------------------------------------------------------------------

struct FileCloser {
    void operator()(std::FILE* file) const {
        if (file != stdin) std::fclose(file);
    }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

bool is_separator(char c) { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

void set_drafts(const std::string& text, engine::EngineOptions& options) {
    using engine::DraftKind;
    options.drafts = text == "auto"     ? DraftKind::kAuto
                     : text == "none"   ? DraftKind::kNone
                     : text == "lookup" ? DraftKind::kLookup
                                        : DraftKind::kModel;
    if (options.drafts == DraftKind::kModel) options.draft_model_path = text;
}

}  // namespace

std::vector<std::string> split_at_commas(std::string_view text) {
    std::vector<std::string> parts;
    for (const auto part : std::views::split(text, ','))
        if (!part.empty()) parts.emplace_back(part.begin(), part.end());
    return parts;
}

Result<std::vector<placement::CacheType>> parse_cache_flag(const std::string& text) {
    using placement::CacheType;
    if (text == "auto") return std::vector{CacheType::kF16, CacheType::kQ8_0, CacheType::kQ4_0};
    if (const auto type = placement::parse_cache_type(text)) return std::vector{*type};
    return fail(ErrorCode::kInvalidArgument, "--kv: '{}' is none of f16, q8_0, q4_0 and auto", text);
}

void add_device_flags(CLI::App& command, EngineFlags& flags) {
    command.add_option("--device", flags.devices, "names of --list-devices, auto (every graphics card) or none")
        ->group(kDeviceGroup);
    command.add_option("--vram", flags.vram, "device memory to use: 8GiB, or auto")->group(kDeviceGroup);
    command.add_option("--gpu-layers", flags.gpu_layers, "layers on devices (default: as many as fit)")
        ->group(kDeviceGroup);
    command.add_option("--rpc", flags.rpc_servers, "ggml-rpc-servers whose memory to use: host:port,...")
        ->trigger_on_parse()
        ->group(kDeviceGroup);
    // Like --help: an answer of its own, whatever else is given.
    command
        .add_flag_callback(
            "--list-devices",
            [&flags] {
                if (Status added = engine::add_remote_devices(split_at_commas(flags.rpc_servers)); !added)
                    throw CLI::ValidationError("--rpc", added.error().message);
                (void)print_text(device_table());
                throw CLI::Success();
            },
            "list the devices that ggml sees, with those of an --rpc before it, and stop")
        ->trigger_on_parse()
        ->group(kDeviceGroup);
}

void add_memory_flags(CLI::App& command, EngineFlags& flags, const Environment& environment) {
    flags.profile_file = profile_file(environment);
    command.add_option("--ram", flags.ram, "memory for everything: 3GiB, 40%, or auto")->group(kMemoryGroup);
    command.add_option("--weights", flags.weights, "memory for weights alone: 2GiB or 30%")->group(kMemoryGroup);
    command.add_option("--mode", flags.mode, "auto, resident, stream or mmap")->group(kMemoryGroup);
    command.add_option("--kv", flags.cache_type, "KV cache: f16; q8_0 and q4_0 are smaller and change results; auto")
        ->group(kMemoryGroup);
    command.add_option("--batch", flags.batch_tokens, kBatchHelp)->group(kMemoryGroup);
    command.add_option("--threads", flags.threads, "compute threads (0: the usable cores)")->group(kMemoryGroup);
    command.add_option("--io", flags.io, "auto, io_uring or pread")->group(kMemoryGroup);
    add_device_flags(command, flags);
    command
        .add_option("--fault", flags.fault,
                    "[load:]N:eio|short|eintr|eof[:permanent]: fail the Nth read; N:slow:MS: delay them")
        ->group("");
}

void add_engine_flags(CLI::App& command, EngineFlags& flags, const Environment& environment) {
    command.add_option("MODEL", flags.model_path, "a GGUF file, or any part of a split one")->required();
    command.add_option("--ctx", flags.context_tokens, "tokens of context (0: the model's, at most 4096)")
        ->group(kMemoryGroup);
    add_memory_flags(command, flags, environment);
}

void add_draft_flag(CLI::App& command, EngineFlags& flags) {
    command
        .add_option("--draft", flags.draft,
                    "guess next tokens and check several a pass: auto, none, lookup, or FILE, a small model")
        ->group(kMemoryGroup);
}

Result<engine::EngineOptions> to_engine_options(const EngineFlags& flags, uint64_t usable_bytes) {
    engine::EngineOptions options;
    HYPURA_ASSIGN(options.mode, parse_mode_flag(flags.mode));
    HYPURA_ASSIGN(options.ram_bytes, parse_budget_flag(flags.ram, "auto", usable_bytes, "--ram"));
    HYPURA_ASSIGN(options.weights_bytes, parse_budget_flag(flags.weights, "", usable_bytes, "--weights"));
    HYPURA_ASSIGN(options.reader.kind, parse_reader_kind(flags.io));
    HYPURA_TRY(parse_fault_flag(flags.fault, options));
    HYPURA_ASSIGN(options.cache_types, parse_cache_flag(flags.cache_type));
    HYPURA_ASSIGN(options.vram_bytes, parse_budget_flag(flags.vram, "auto", usable_bytes, "--vram"));
    if (flags.vram.ends_with('%'))
        return fail(ErrorCode::kInvalidArgument,
                    "--vram: a share of the device's memory is not known here; give a size");
    if (flags.devices != "auto") options.devices = split_at_commas(flags.devices);
    options.gpu_layers = flags.gpu_layers;
    options.rpc_servers = split_at_commas(flags.rpc_servers);
    set_drafts(flags.draft, options);
    if (flags.batch_tokens == 0U) return fail(ErrorCode::kInvalidArgument, "--batch: a pass needs at least one token");
    if (flags.threads > kMostThreads)
        return fail(ErrorCode::kInvalidArgument, "--threads: libggml takes at most {}", kMostThreads);
    options.model_path = flags.model_path;
    options.context_tokens = flags.context_tokens;
    options.batch_tokens = flags.batch_tokens.value_or(0);
    options.threads = flags.threads;
    options.profile_file = flags.profile_file;
    return options;
}

Result<engine::EngineOptions> to_engine_options(const EngineFlags& flags) {
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    return to_engine_options(flags, limits.usable_bytes());
}

Result<storage::ReaderKind> parse_reader_kind(const std::string& text) {
    if (text == "auto") return storage::ReaderKind::kAuto;
    if (text == "io_uring") return storage::ReaderKind::kUring;
    if (text == "pread") return storage::ReaderKind::kPread;
    return fail(ErrorCode::kInvalidArgument, "--io: '{}' is none of auto, io_uring and pread", text);
}

void add_sampling_flags(CLI::App& command, SamplingFlags& flags) {
    constexpr const char* kSampling = "Sampling (defaults: the model's own, else llama.cpp's)";
    command.add_option("--temp", flags.temperature, "temperature; 0 always takes the likeliest token")
        ->group(kSampling);
    command.add_option("--top-k", flags.top_k, "choose among the K likeliest tokens (0: all)")->group(kSampling);
    command.add_option("--top-p", flags.top_p, "choose among tokens that make up this probability")->group(kSampling);
    command.add_option("--min-p", flags.min_p, "drop tokens less likely than this share of the likeliest")
        ->group(kSampling);
    command.add_option("--repeat-penalty", flags.repeat_penalty, "divide the logits of recent tokens (1: off)")
        ->group(kSampling);
    command.add_option("--seed", flags.seed, "of the random choice (default, and -1: random)")
        ->check(CLI::Range(int64_t{-1}, int64_t{UINT32_MAX}))
        ->group(kSampling);
}

engine::SamplingOptions to_sampling_options(const SamplingFlags& flags, const gguf::Metadata& metadata) {
    engine::SamplingOptions options;
    choose(options.temperature, flags.temperature, metadata, "general.sampling.temp");
    choose(options.top_k, flags.top_k, metadata, "general.sampling.top_k");
    choose(options.top_p, flags.top_p, metadata, "general.sampling.top_p");
    choose(options.min_p, flags.min_p, metadata, "general.sampling.min_p");
    choose(options.repeat_penalty, flags.repeat_penalty, metadata, "general.sampling.penalty_repeat");
    if (const auto last = find_number<int32_t>(metadata, "general.sampling.penalty_last_n"))
        options.repeat_last_tokens = *last;
    if (flags.seed && *flags.seed >= 0) options.seed = static_cast<uint32_t>(*flags.seed);
    return options;
}

Result<std::vector<engine::Token>> parse_tokens(std::string_view text) {
    std::string contents;
    if (text.starts_with('@')) {
        HYPURA_ASSIGN(contents, read_text(std::string(text.substr(1))));
        text = contents;
    }
    std::vector<engine::Token> tokens;
    const char* const end = text.data() + text.size();
    for (const char* at = text.data(); at != end;) {
        if (is_separator(*at)) {
            ++at;
            continue;
        }
        engine::Token token = 0;
        const auto [rest, error] = std::from_chars(at, end, token);
        const bool usable = error == std::errc() && token >= 0 && (rest == end || is_separator(*rest));
        if (!usable)
            return fail(ErrorCode::kInvalidArgument, "--tokens: '{}' is not a token number",
                        std::string_view(at, std::min<size_t>(static_cast<size_t>(end - at), 20)));
        tokens.push_back(token);
        at = rest;
    }
    if (tokens.empty()) return fail(ErrorCode::kInvalidArgument, "--tokens: no token numbers given");
    return tokens;
}

Result<std::string> read_text(const std::string& path) {
    const File file(path == "-" ? stdin : std::fopen(path.c_str(), "rbe"));
    if (!file) return std::unexpected(error_from_errno(errno, "open the file", path));
    std::string text;
    std::array<char, 65536> block{};
    while (const size_t bytes = std::fread(block.data(), 1, block.size(), file.get())) text.append(block.data(), bytes);
    if (std::ferror(file.get())) return std::unexpected(error_from_errno(errno, "read the file", path));
    return text;
}

}  // namespace hypura::cli
