// hypura make-model: writes a model with random weights (gguf/synthetic.h).
#include "base/bytes.h"
#include "base/clock.h"
#include "cli/command.h"
#include "cli/console.h"
#include "gguf/synthetic.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <format>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace hypura::cli {
namespace {

// Flags override the preset, so each must tell whether it was given.
struct MakeModelFlags {
    std::string path;
    std::string preset;
    std::optional<std::string> architecture, quantization, mix;
    std::optional<uint64_t> layers, experts, experts_used, embedding, feed_forward, heads, kv_heads, head_dim,
        vocabulary, context, seed;
    std::optional<double> router_skew, locality;
    double scale = 1;
    std::string split_max_size;
    bool dry_run = false;
};

template <class T>
void override_with(T& value, const std::optional<T>& flag) {
    if (flag) value = *flag;
}

void apply_shape(const MakeModelFlags& flags, gguf::SyntheticSpec& spec) {
    override_with(spec.architecture, flags.architecture);
    override_with(spec.layers, flags.layers);
    override_with(spec.experts, flags.experts);
    override_with(spec.experts_used, flags.experts_used);
    override_with(spec.embedding, flags.embedding);
    override_with(spec.feed_forward, flags.feed_forward);
    override_with(spec.heads, flags.heads);
    override_with(spec.kv_heads, flags.kv_heads);
    override_with(spec.head_dim, flags.head_dim);
    override_with(spec.vocabulary, flags.vocabulary);
    override_with(spec.context, flags.context);
}

Result<gguf::SyntheticSpec> spec_from(const MakeModelFlags& flags) {
    gguf::SyntheticSpec spec;
    if (!flags.preset.empty()) {
        HYPURA_ASSIGN(spec, gguf::synthetic_preset(flags.preset));
    }
    if (!(flags.scale > 0 && flags.scale <= 1))
        return fail(ErrorCode::kInvalidArgument, "--scale: {} does not lie above 0 and up to 1", flags.scale);
    const double scaled_layers = std::round(static_cast<double>(spec.layers) * flags.scale);
    spec.layers = std::max<uint64_t>(1, static_cast<uint64_t>(scaled_layers));
    apply_shape(flags, spec);
    override_with(spec.quantization, flags.quantization);
    override_with(spec.quantization, flags.mix);
    override_with(spec.router_skew, flags.router_skew);
    override_with(spec.locality, flags.locality);
    override_with(spec.seed, flags.seed);
    return spec;
}

uint64_t bytes_matching(const gguf::SyntheticModel& model, std::string_view part_of_name) {
    uint64_t bytes = 0;
    for (const gguf::TensorSpec& tensor : model.tensors)
        if (tensor.name.contains(part_of_name)) bytes += tensor.size_bytes();
    return bytes;
}

void print_sizes(const gguf::SyntheticSpec& spec, const gguf::SyntheticModel& model) {
    const uint64_t total = model.tensor_bytes();
    const uint64_t experts = bytes_matching(model, "_exps.");
    std::puts(std::format("{}, {} layers, {}: {} tensors, {} ({} bytes)", spec.architecture, spec.layers,
                          spec.quantization, model.tensors.size(), format_bytes(total), total)
                  .c_str());
    if (experts == 0) return;
    const uint64_t used = experts / spec.experts * spec.experts_used;
    std::puts(std::format("experts {}, of which a token uses {}; everything else {}", format_bytes(experts),
                          format_bytes(used), format_bytes(total - experts))
                  .c_str());
}

// Consecutive tensors that go to one file.
struct PartRange {
    size_t begin = 0;
    size_t end = 0;
};

std::vector<PartRange> part_ranges(const gguf::SyntheticModel& model, uint64_t max_bytes) {
    std::vector<PartRange> parts = {{}};
    uint64_t part_bytes = 0;
    for (size_t i = 0; i < model.tensors.size(); ++i) {
        const uint64_t bytes = model.tensors[i].size_bytes();
        if (part_bytes > 0 && part_bytes + bytes > max_bytes) {
            parts.push_back({i, i});
            part_bytes = 0;
        }
        part_bytes += bytes;
        parts.back().end = i + 1;
    }
    return parts;
}

// llama.cpp's pattern. The extension makes way for the number.
std::string part_path(std::string path, size_t part, size_t parts) {
    if (path.ends_with(".gguf")) path.resize(path.size() - 5);
    return std::format("{}-{:05}-of-{:05}.gguf", path, part + 1, parts);
}

// Every part names its place; only the first repeats what the model is.
gguf::Metadata part_metadata(const gguf::SyntheticModel& model, size_t part, size_t parts) {
    gguf::Metadata metadata = part == 0 ? model.metadata : gguf::Metadata{};
    metadata["split.no"] = uint64_t{part};
    metadata["split.count"] = uint64_t{parts};
    metadata["split.tensors.count"] = static_cast<int64_t>(model.tensors.size());
    return metadata;
}

Status write_parts(const std::string& path, const gguf::SyntheticModel& model, uint64_t max_bytes,
                   ProgressBar& progress) {
    const auto ranges = part_ranges(model, max_bytes);
    const std::span<const gguf::TensorSpec> tensors = model.tensors;
    for (size_t part = 0; part < ranges.size(); ++part) {
        const auto [begin, end] = ranges[part];
        const auto fill = [&model, begin](size_t index, uint64_t offset, std::span<std::byte> chunk) {
            model.fill(begin + index, offset, chunk);
        };
        HYPURA_TRY(gguf::write_model(part_path(path, part, ranges.size()), part_metadata(model, part, ranges.size()),
                                     tensors.subspan(begin, end - begin), fill,
                                     [&](uint64_t written, uint64_t total) { progress.update(written, total); }));
    }
    return {};
}

Status write(const MakeModelFlags& flags, const gguf::SyntheticModel& model, const Environment& environment) {
    ProgressBar progress(environment, "writing", ProgressUnit::kBytes);
    if (flags.split_max_size.empty())
        return gguf::write_model(flags.path, model.metadata, model.tensors, model.fill,
                                 [&](uint64_t written, uint64_t total) { progress.update(written, total); });
    HYPURA_ASSIGN(const uint64_t max_bytes, parse_size(flags.split_max_size, model.tensor_bytes(), "--split-max-size"));
    return write_parts(flags.path, model, max_bytes, progress);
}

Status make_model(const MakeModelFlags& flags, const Environment& environment) {
    HYPURA_ASSIGN(const gguf::SyntheticSpec spec, spec_from(flags));
    HYPURA_ASSIGN(const gguf::SyntheticModel model,
                  gguf::synthesize(spec, std::max(1U, std::thread::hardware_concurrency())));
    print_sizes(spec, model);
    if (flags.dry_run) return {};
    const int64_t begin_us = now_us();
    HYPURA_TRY(write(flags, model, environment));
    const double seconds = static_cast<double>(std::max<int64_t>(1, now_us() - begin_us)) / 1e6;
    const auto bytes_per_second = static_cast<uint64_t>(static_cast<double>(model.tensor_bytes()) / seconds);
    std::puts(std::format("written in {:.1f} s, {}/s", seconds, format_bytes(bytes_per_second)).c_str());
    return {};
}

std::string preset_help() {
    std::string help = "the shape of a published model: ";
    for (const gguf::SyntheticPreset& preset : gguf::synthetic_presets())
        help += std::format("{}{} ({})", help.ends_with(": ") ? "" : "; ", preset.name, preset.description);
    return help;
}

void add_shape_options(CLI::App& command, MakeModelFlags& flags) {
    const auto architectures = gguf::synthetic_architectures();
    command.add_option("--arch", flags.architecture, "architecture")
        ->check(CLI::IsMember(std::vector<std::string>(architectures.begin(), architectures.end())));
    command.add_option("--layers", flags.layers, "number of layers");
    command.add_option("--experts", flags.experts, "routed experts a layer; 0: dense");
    command.add_option("--top-k", flags.experts_used, "experts that a token uses");
    command.add_option("--embd", flags.embedding, "model width");
    command.add_option("--ff", flags.feed_forward, "feed-forward width, of one expert in a mixture");
    command.add_option("--heads", flags.heads, "attention heads");
    command.add_option("--kv-heads", flags.kv_heads, "key and value heads");
    command.add_option("--head-dim", flags.head_dim, "elements a head");
    command.add_option("--vocab", flags.vocabulary, "tokens");
    command.add_option("--ctx", flags.context, "context length that the model claims to be trained for");
}

void add_weight_options(CLI::App& command, MakeModelFlags& flags) {
    command.add_option("--quant", flags.quantization, "f16, q8_0, q4_0, q4_K, q5_K, q6_K or mxfp4 for all matrices");
    command.add_option("--mix", flags.mix, "q4_k_m or q5_k_m: per-tensor types by llama.cpp's rules");
    command.add_option("--router-skew", flags.router_skew, "popularity of experts falls as rank^-SKEW; 0: uniform");
    command.add_option("--locality", flags.locality,
                       "0 to 0.95: how much generated tokens share routing with the last");
    command.add_option("--seed", flags.seed, "the same seed gives the same bytes");
}

}  // namespace

void add_make_model(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<MakeModelFlags>();
    CLI::App* command = app.add_subcommand("make-model", "Write a model with random weights, for benchmarks and tests");
    command->add_option("OUT", flags->path, "the GGUF file to write")->required();
    command->add_option("--like", flags->preset, preset_help());
    command->add_option("--scale", flags->scale, "share of the preset's layers to keep, 0 to 1");
    add_shape_options(*command, *flags);
    add_weight_options(*command, *flags);
    command->add_option("--split-max-size", flags->split_max_size, "write parts of at most SIZE of tensor data");
    command->add_flag("--dry-run", flags->dry_run, "print the sizes and write nothing");
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return make_model(*flags, context.environment); }; });
}

}  // namespace hypura::cli
