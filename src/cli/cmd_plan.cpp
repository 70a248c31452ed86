// hypura plan: what would go where and how fast it would be, without loading anything; for a model that is there (alias
// inspect), or for one and a machine that are not (estimate).
#include "base/bytes.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/model_facts.h"
#include "cli/options.h"
#include "cli/plan_report.h"
#include "cli/profile_store.h"
#include "engine/machine_probe.h"
#include "gguf/synthetic.h"
#include "hardware/memory.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;

// Flags of both commands.
struct WorkFlags {
    std::string ram = "auto";
    std::string weights;
    std::string mode = "auto";
    std::string cache_type = "f16";
    std::string svg_path;
    uint32_t context_tokens = 0;
    uint32_t batch_tokens = 0;
    uint32_t prompt_tokens = 512;
    std::string device = "auto";
    std::string vram = "auto";
    std::string rpc_servers;
    std::optional<uint32_t> gpu_layers;
    placement::Routing routing;
    bool json = false;
};

struct PlanFlags {
    std::string model_path;
    WorkFlags work;
};

// The machine that one does not have.
struct EstimateFlags {
    std::string model_path;
    std::string preset;
    std::string disk = "1GB/s";
    double disk_latency_us = 100;
    double scale = 1;
    std::optional<uint32_t> cores;
    std::optional<double> memory_gigabytes;
    WorkFlags work;
};

void add_work_flags(CLI::App& command, WorkFlags& flags) {
    command.add_option("--ram", flags.ram, "memory for everything: 3GiB, 40%, or auto");
    command.add_option("--weights", flags.weights, "memory for weights alone");
    command.add_option("--mode", flags.mode, "auto, resident, stream or mmap");
    command.add_option("--ctx", flags.context_tokens, "tokens of context (0: the model's, at most 4096)");
    command.add_option("--kv", flags.cache_type, "KV cache: f16; q8_0 and q4_0 are smaller and change results; auto");
    command.add_option("--batch", flags.batch_tokens, kBatchHelp)->check(CLI::PositiveNumber);
    command.add_option("--device", flags.device, "auto: with the graphics card, if it was measured; none")
        ->check(CLI::IsMember({"auto", "none"}));
    command.add_option("--vram", flags.vram, "memory of the card: 8GiB, or auto");
    command.add_option("--gpu-layers", flags.gpu_layers, "layers on the card");
    command.add_option("--prompt-tokens", flags.prompt_tokens, "predict the first token of a prompt of that length")
        ->check(CLI::PositiveNumber);
    command.add_option("--skew", flags.routing.skew, "popularity of experts falls as rank^-SKEW")
        ->check(CLI::Range(0.0, 4.0));
    command.add_option("--reuse", flags.routing.reuse, "share of experts that a token has in common with the last")
        ->check(CLI::Range(0.0, 0.99));
    command.add_flag("--json", flags.json, "print JSON");
    command.add_option("--svg", flags.svg_path, "also draw the layers by tiers to this file");
}

// ---- from flags to a request ---------------------------------------------------------------------------------------

std::optional<placement::PlanMode> plan_mode(engine::Mode mode) {
    switch (mode) {
        case engine::Mode::kResident:
            return placement::PlanMode::kResident;
        case engine::Mode::kStream:
            return placement::PlanMode::kStream;
        case engine::Mode::kMmap:
            return placement::PlanMode::kMmap;
        case engine::Mode::kAuto:
            break;
    }
    return std::nullopt;
}

Result<std::optional<placement::PlanMode>> parse_plan_mode(const std::string& text) {
    if (const auto mode = engine::parse_mode(text)) return plan_mode(*mode);
    return fail(ErrorCode::kInvalidArgument, "--mode: '{}' is none of auto, resident, stream and mmap", text);
}

// Budgets as the engine takes them. `limits`: of the machine that is planned for.
Result<placement::PlanRequest> request_from(const WorkFlags& flags, const hardware::MemoryLimits& limits) {
    placement::PlanRequest request;
    HYPURA_ASSIGN(request.mode, parse_plan_mode(flags.mode));
    HYPURA_ASSIGN(request.cache_types, parse_cache_flag(flags.cache_type));
    if (flags.ram == "auto") {
        request.ram_bytes = limits.budget_bytes();
        request.page_cache_bytes = limits.usable_bytes();
    } else {
        HYPURA_ASSIGN(request.ram_bytes, parse_size(flags.ram, limits.usable_bytes(), "--ram"));
    }
    if (!flags.weights.empty()) {
        HYPURA_ASSIGN(request.weights_bytes, parse_size(flags.weights, limits.usable_bytes(), "--weights"));
    }
    request.context_tokens = flags.context_tokens;
    request.batch_tokens = flags.batch_tokens;
    request.prompt_tokens = flags.prompt_tokens;
    request.with_bound = true;
    request.routing = flags.routing;
    return request;
}

// ---- output --------------------------------------------------------------------------------------------------------

Status write_svg(const std::string& path, const std::string& text) {
    std::ofstream stream(path, std::ios::binary | std::ios::trunc);
    stream << text;
    if (!stream.flush()) return fail(ErrorCode::kPermissionDenied, "{}: cannot be written", path);
    return {};
}

Result<PlanReport> make_report(const placement::ModelDemand& demand, const engine::KnownMachine& known,
                               const placement::PlanRequest& request, const WorkFlags& flags) {
    HYPURA_ASSIGN(placement::Plan plan, placement::make_plan(demand, known.machine, known.disk, request));
    PlanReport report{.plan = std::move(plan), .ram_bytes = request.ram_bytes};
    report.what_if = placement::what_if(demand, known.machine, known.disk, request, report.plan);
    report.machine_measured = known.machine.measured();
    report.disk_measured = known.disk_measured;
    report.prompt_tokens = request.prompt_tokens;
    uint64_t room_bytes = 0;
    if (flags.vram != "auto") {
        HYPURA_ASSIGN(room_bytes, parse_size(flags.vram, 0, "--vram"));
    }
    if (flags.device == "none") return report;
    report.device = placement::device_outlook(demand, known.machine, known.disk, request, report.plan, room_bytes,
                                              flags.gpu_layers);
    const bool asked_for = flags.gpu_layers || !flags.rpc_servers.empty();
    if (report.device && !asked_for)
        report.device_choice = placement::choose_cards(*report.device, report.plan, request.prompt_tokens);
    return report;
}

// The facts come out even where no plan works; that is then the command's error.
Status print_report(const ModelFacts& facts, const Result<PlanReport>& report, const WorkFlags& flags,
                    const std::string& title) {
    if (flags.json) {
        Json json = Json::parse(facts_json(facts));
        json["plan"] = report ? plan_json(*report) : Json(nullptr);
        HYPURA_TRY(print_text(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
    } else {
        HYPURA_TRY(print_text(facts_text(facts) + (report ? plan_text(*report) : "")));
    }
    if (!report) return std::unexpected(report.error());
    return flags.svg_path.empty() ? Status{} : write_svg(flags.svg_path, plan_svg(*report, title));
}

std::string title_of(const gguf::ModelFile& file) {
    std::string name(file.find_string("general.name").value_or(""));
    if (!name.empty() || file.parts.empty()) return name;
    return file.parts.front().path;
}

Status report_on(const gguf::ModelFile& file, const engine::KnownMachine& known, const hardware::MemoryLimits& limits,
                 const WorkFlags& flags) {
    HYPURA_ASSIGN(const placement::PlanRequest request, request_from(flags, limits));
    const placement::ModelDemand demand = placement::model_demand(file);
    return print_report(model_facts(file), make_report(demand, known, request, flags), flags, title_of(file));
}

// Of other machines only those count that were named; nobody calls on them.
Status keep_servers(placement::Machine& machine, const std::vector<std::string>& servers) {
    std::erase_if(machine.devices, [&](const placement::ComputeDevice& device) {
        return device.kind == "remote" && !std::ranges::contains(servers, device.description);
    });
    for (const std::string& server : servers)
        if (!std::ranges::contains(machine.devices, server, &placement::ComputeDevice::description))
            return fail(ErrorCode::kInvalidArgument, "--rpc: {0} was not measured: hypura profile --rpc {0} does that",
                        server);
    return {};
}

Status plan(const Environment& environment, const PlanFlags& flags) {
    HYPURA_ASSIGN(const gguf::ModelFile file, gguf::open_model(flags.model_path));
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    engine::KnownMachine known = engine::known_machine(profile_file(environment), flags.model_path);
    engine::glance_at_unknown_disk(known, flags.model_path);  // as opening would
    HYPURA_TRY(keep_servers(known.machine, split_at_commas(flags.work.rpc_servers)));
    return report_on(file, known, limits, flags.work);
}

// ---- a machine and a model that are not here -----------------------------------------------------------------------

Result<gguf::ModelFile> imagined_model(const EstimateFlags& flags) {
    if (!flags.model_path.empty()) return gguf::open_model(flags.model_path);
    if (flags.preset.empty()) return fail(ErrorCode::kInvalidArgument, "name a model file, or a shape with --like");
    HYPURA_ASSIGN(gguf::SyntheticSpec spec, gguf::synthetic_preset(flags.preset));
    if (!(flags.scale > 0 && flags.scale <= 1))
        return fail(ErrorCode::kInvalidArgument, "--scale: {} does not lie above 0 and up to 1", flags.scale);
    spec.layers =
        std::max<uint64_t>(1, static_cast<uint64_t>(std::round(static_cast<double>(spec.layers) * flags.scale)));
    HYPURA_ASSIGN(const gguf::SyntheticModel model, gguf::synthesize(spec));
    return placement::directory_of(model);
}

// "3.5GB/s"; the "/s" may be left out.
Result<double> parse_rate(std::string text, std::string_view option) {
    if (text.ends_with("/s")) text.resize(text.size() - 2);
    HYPURA_ASSIGN(const uint64_t bytes, parse_size(text, 0, option));
    if (bytes == 0) return fail(ErrorCode::kInvalidArgument, "{}: must be more than zero", option);
    return static_cast<double>(bytes);
}

// This machine's processor, as measured or assumed, scaled to the cores and the bandwidth of the other one: arithmetic
// grows with the cores, and a single column is read no faster than memory allows.
void imagine_processor(placement::Machine& machine, const EstimateFlags& flags) {
    const double cores = flags.cores ? static_cast<double>(*flags.cores) / machine.cores : 1;
    if (flags.memory_gigabytes)
        machine.memory_bytes_per_second = *flags.memory_gigabytes * 1e9;
    else
        machine.memory_bytes_per_second *= std::max(1.0, cores);
    machine.cores = flags.cores.value_or(machine.cores);
    for (placement::MatmulRate& rate : machine.devices.front().rates) {
        rate.weight_bytes_per_second = std::min(rate.weight_bytes_per_second * cores, machine.memory_bytes_per_second);
        rate.flops *= cores;
    }
}

Status estimate(const Environment& environment, const EstimateFlags& flags) {
    HYPURA_ASSIGN(const gguf::ModelFile file, imagined_model(flags));
    HYPURA_ASSIGN(const double disk_rate, parse_rate(flags.disk, "--disk"));
    engine::KnownMachine known = engine::known_machine(profile_file(environment), ".");
    HYPURA_TRY(keep_servers(known.machine, {}));
    imagine_processor(known.machine, flags);
    known.disk = placement::assumed_disk(disk_rate, flags.disk_latency_us);
    known.disk_measured = true;  // as good as measured: it was stated
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    return report_on(file, known, limits, flags.work);
}

}  // namespace

void add_plan(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<PlanFlags>();
    CLI::App* command =
        app.add_subcommand("plan", "Show a model, where its weights would go, and how fast it would be");
    command->alias("inspect");
    command->add_option("MODEL", flags->model_path, "a GGUF file, or any part of a split one")->required();
    add_work_flags(*command, flags->work);
    command->add_option("--rpc", flags->work.rpc_servers, "with these ggml-rpc-servers, as they were measured");
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return plan(context.environment, *flags); }; });
}

void add_estimate(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<EstimateFlags>();
    CLI::App* command = app.add_subcommand("estimate", "The same for a model and a machine that are not here");
    command->add_option("MODEL", flags->model_path, "a GGUF file, instead of --like");
    command->add_option("--like", flags->preset, "the shape of a published model, as in make-model");
    command->add_option("--scale", flags->scale, "share of that model's layers, 0 to 1");
    command->add_option("--disk", flags->disk, "what the disk reads at most: 3.5GB/s");
    command->add_option("--disk-latency", flags->disk_latency_us, "microseconds of a small read")
        ->check(CLI::PositiveNumber);
    command->add_option("--cores", flags->cores, "cores like this machine's")->check(CLI::PositiveNumber);
    command->add_option("--memory-bandwidth", flags->memory_gigabytes, "GB/s that memory is read at")
        ->check(CLI::PositiveNumber);
    add_work_flags(*command, flags->work);
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return estimate(context.environment, *flags); }; });
}

}  // namespace hypura::cli
