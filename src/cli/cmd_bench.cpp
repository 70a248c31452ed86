// hypura bench: what this machine does with this model, from outside the token loop. Random tokens, so that neither the
// text nor the sampler matters; the same ones in every run.
#include "base/bytes.h"
#include "base/clock.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/options.h"
#include "engine/engine.h"
#include "hardware/memory.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <format>
#include <random>
#include <vector>

namespace hypura::cli {
namespace {

struct BenchFlags {
    EngineFlags engine;
    uint32_t prompt_tokens = 128;
    uint32_t warm_up_tokens = 32;
    uint32_t decode_tokens = 100;
    bool json = false;
};

// One stretch of tokens, and what the engine did meanwhile.
struct Stretch {
    std::string name;
    uint32_t tokens = 0;
    int64_t wall_us = 0;
    int64_t wait_us = 0;  // the computation stood still for reads
    int64_t busy_us = 0;  // a read was in flight
    uint64_t read_bytes = 0;
    uint64_t demands = 0;
    uint64_t hits = 0;
    uint64_t minor_faults = 0;
    uint64_t major_faults = 0;

    double tokens_per_second() const { return tokens * 1e6 / static_cast<double>(std::max<int64_t>(wall_us, 1)); }
    double hit_rate() const { return demands == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(demands); }
};

std::vector<engine::Token> random_tokens(uint32_t count, uint32_t vocabulary, std::mt19937& random) {
    std::vector<engine::Token> tokens(count);
    std::ranges::generate(tokens, [&] { return static_cast<engine::Token>(random() % std::max(vocabulary, 1U)); });
    return tokens;
}

// Runs `tokens` in pieces of `piece_tokens` and takes the difference of every counter.
Result<Stretch> measure(std::string name, engine::Engine& engine, engine::Session& session,
                        std::span<const engine::Token> tokens, size_t piece_tokens) {
    const engine::Report before = engine.report();
    const hardware::ProcessMemory memory_before = hardware::process_memory();
    const int64_t begin_us = now_us();
    for (size_t done = 0; done < tokens.size(); done += piece_tokens)
        HYPURA_TRY(session.evaluate(tokens.subspan(done, std::min(piece_tokens, tokens.size() - done)),
                                    engine::LogitsWanted::kLast));
    const int64_t wall_us = now_us() - begin_us;
    const engine::Report after = engine.report();
    const hardware::ProcessMemory memory_after = hardware::process_memory();
    return Stretch{std::move(name),
                   static_cast<uint32_t>(tokens.size()),
                   wall_us,
                   after.wait_us - before.wait_us,
                   after.reads.busy_us - before.reads.busy_us,
                   after.reads.bytes - before.reads.bytes,
                   after.demands - before.demands,
                   after.hits - before.hits,
                   memory_after.minor_faults - memory_before.minor_faults,
                   memory_after.major_faults - memory_before.major_faults};
}

Result<std::vector<Stretch>> run_stretches(engine::Engine& engine, const BenchFlags& flags) {
    HYPURA_ASSIGN(const auto session, engine.new_session());
    std::mt19937 random(1);
    const uint32_t counts[] = {flags.prompt_tokens, flags.warm_up_tokens, flags.decode_tokens};
    const char* const names[] = {"prompt", "warm-up", "decode"};
    std::vector<Stretch> stretches;
    for (size_t i = 0; i < 3; ++i) {
        if (counts[i] == 0) continue;
        const auto tokens = random_tokens(counts[i], engine.vocabulary_tokens(), random);
        HYPURA_ASSIGN(Stretch stretch, measure(names[i], engine, *session, tokens, i == 0 ? tokens.size() : 1));
        stretches.push_back(std::move(stretch));
    }
    return stretches;
}

std::string bench_text(const engine::Report& report, const std::vector<Stretch>& stretches) {
    std::string text = std::format("mode {}: {}\n{} in memory, {} of slots, loaded in {:.2f} s\n\n",
                                   engine::to_string(report.mode), report.reason, format_bytes(report.resident_bytes),
                                   format_bytes(report.slot_bytes), static_cast<double>(report.load_us) / 1e6);
    text += std::format("{:<8} {:>7} {:>9} {:>14} {:>10} {:>9} {:>7} {:>14} {:>8}\n", "", "tokens", "tok/s",
                        "read/token", "read rate", "waited", "hits", "faults/token", "major");
    for (const Stretch& stretch : stretches) {
        const double busy_seconds = static_cast<double>(std::max<int64_t>(stretch.busy_us, 1)) / 1e6;
        const auto rate_bytes = static_cast<uint64_t>(static_cast<double>(stretch.read_bytes) / busy_seconds);
        text +=
            std::format("{:<8} {:>7} {:>9.2f} {:>14} {:>8}/s {:>7.2f} s {:>6.1f}% {:>14.1f} {:>8}\n", stretch.name,
                        stretch.tokens, stretch.tokens_per_second(), format_bytes(stretch.read_bytes / stretch.tokens),
                        format_bytes(rate_bytes), static_cast<double>(stretch.wait_us) / 1e6, stretch.hit_rate() * 100,
                        static_cast<double>(stretch.minor_faults) / stretch.tokens, stretch.major_faults);
    }
    return text;
}

std::string bench_json(const engine::Report& report, const std::vector<Stretch>& stretches) {
    nlohmann::json json = {{"mode", engine::to_string(report.mode)},
                           {"reason", report.reason},
                           {"resident_bytes", report.resident_bytes},
                           {"slot_bytes", report.slot_bytes},
                           {"load_us", report.load_us},
                           {"stretches", nlohmann::json::array()}};
    for (const Stretch& stretch : stretches)
        json["stretches"].push_back({{"name", stretch.name},
                                     {"tokens", stretch.tokens},
                                     {"wall_us", stretch.wall_us},
                                     {"wait_us", stretch.wait_us},
                                     {"busy_us", stretch.busy_us},
                                     {"read_bytes", stretch.read_bytes},
                                     {"demands", stretch.demands},
                                     {"hits", stretch.hits},
                                     {"minor_faults", stretch.minor_faults},
                                     {"major_faults", stretch.major_faults},
                                     {"tokens_per_second", stretch.tokens_per_second()}});
    return json.dump(2) + "\n";
}

Status bench(const BenchFlags& flags) {
    HYPURA_ASSIGN(const engine::EngineOptions options, to_engine_options(flags.engine));
    HYPURA_ASSIGN(const auto engine, engine::Engine::open(options));
    HYPURA_ASSIGN(const std::vector<Stretch> stretches, run_stretches(*engine, flags));
    return print_text(flags.json ? bench_json(engine->report(), stretches) : bench_text(engine->report(), stretches));
}

}  // namespace

void add_bench(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<BenchFlags>();
    CLI::App* command = app.add_subcommand("bench", "Measure prompt and decode speed with random tokens");
    add_engine_flags(*command, flags->engine);
    command->add_option("--prompt-tokens", flags->prompt_tokens, "tokens of the prompt");
    command->add_option("--warm-up", flags->warm_up_tokens, "tokens decoded before measuring");
    command->add_option("--tokens", flags->decode_tokens, "tokens decoded and measured");
    command->add_flag("--json", flags->json, "print JSON");
    command->callback([flags, &context] { context.action = [flags] { return bench(*flags); }; });
}

}  // namespace hypura::cli
