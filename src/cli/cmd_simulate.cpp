// hypura simulate: replays a trace through replacement policies over a range of pool sizes.
#include "cli/chart.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/text_file.h"
#include "cli/trace_file.h"
#include "residency/policy_simulator.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <format>
#include <numeric>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;
using residency::DemandTrace;
using residency::Policy;
using residency::Simulation;

struct SimulateFlags {
    std::string trace_path;
    std::vector<uint32_t> percents = {10, 20, 25, 30, 40, 50, 60, 70, 80, 90, 100};
    uint32_t cold_passes = 64;
    std::string plot_path;
    std::string json_path;
    bool all_policies = false;
    residency::TraceFilter filter;
};

struct SizeResult {
    uint32_t percent = 0;
    std::vector<uint32_t> slots;  // by class
    double share = 0;             // of the pages that they hold: more than asked for where a demand is larger
    std::vector<Simulation> policies;
};

struct Replay {
    bool ran = false;
    Simulation simulation;
    bool agrees = false;
};

struct Study {
    std::vector<Policy> policies;
    std::vector<SizeResult> sizes;
    Replay replay;  // the shipped policy at the run's own pool size
};

double total(const std::vector<uint32_t>& slots) { return std::accumulate(slots.begin(), slots.end(), 0.0); }

std::vector<Policy> chosen_policies(const SimulateFlags& flags) {
    const auto all = residency::all_policies();
    if (flags.all_policies) return {all.begin(), all.end()};
    return {Policy::kLru, Policy::kShipped, Policy::kBelady};
}

// A page that a prefetch brought is here or on its way when it is demanded; a replay cannot tell these two apart.
Result<Replay> replay_run(const DemandTrace& trace) {
    HYPURA_ASSIGN(const Simulation simulation, residency::simulate(trace, Policy::kShipped, trace.class_slots));
    const residency::CacheCounters& run = trace.counters;
    const bool agrees = simulation.all.demands == run.demands && simulation.all.hits == run.hits + run.joined &&
                        simulation.evictions == run.evictions;
    return Replay{true, simulation, agrees};
}

Result<Study> study(const DemandTrace& whole, const SimulateFlags& flags) {
    Study study{chosen_policies(flags), {}, {}};
    HYPURA_ASSIGN(study.replay, replay_run(whole));
    const DemandTrace trace = residency::filtered(whole, flags.filter);
    const double pages = total(residency::slots_for_share(trace, 1));
    for (const uint32_t percent : flags.percents) {
        SizeResult size{percent, residency::slots_for_share(trace, percent / 100.0), 0, {}};
        size.share = total(size.slots) / pages;
        for (const Policy policy : study.policies) {
            HYPURA_ASSIGN(Simulation simulation,
                          residency::simulate(trace, policy, size.slots, {.cold_passes = flags.cold_passes}));
            size.policies.push_back(simulation);
        }
        study.sizes.push_back(std::move(size));
    }
    return study;
}

// ---- output --------------------------------------------------------------------------------------------------------

// Of the best possible; 1 where nothing can hit.
double share_of_best(const SizeResult& size, const Study& study, size_t policy) {
    const auto belady =
        static_cast<size_t>(std::ranges::find(study.policies, Policy::kBelady) - study.policies.begin());
    const double best = size.policies[belady].warm.hit_rate();
    return best == 0 ? 1 : size.policies[policy].warm.hit_rate() / best;
}

std::string replay_text(const DemandTrace& trace, const Replay& replay) {
    return std::format(
        "replay at the run's own pool: {} of {} demands hit, {} evictions; the engine counted {} and {}: "
        "{}\n",
        replay.simulation.all.hits, replay.simulation.all.demands, replay.simulation.evictions,
        trace.counters.hits + trace.counters.joined, trace.counters.evictions,
        replay.agrees ? "they agree" : "THEY DIFFER");
}

std::string study_text(const DemandTrace& trace, const Study& study) {
    std::string text = replay_text(trace, study.replay);
    text += "\nhit rate in bytes, single-token passes once warm; in parentheses the share of Belady's\n";
    text += std::format("{:>5} {:>7}", "pool", "slots");
    for (const Policy policy : study.policies) text += std::format(" {:>16}", residency::to_string(policy));
    text += "\n";
    for (const SizeResult& size : study.sizes) {
        text += std::format("{:>4.0f}% {:>7}", 100 * size.share, total(size.slots));
        for (size_t p = 0; p < study.policies.size(); ++p)
            text += std::format("  {:>6.2f}% ({:.3f})", 100 * size.policies[p].warm.hit_rate(),
                                share_of_best(size, study, p));
        text += "\n";
    }
    return text;
}

Json count_json(const residency::HitCount& count) {
    return {{"demands", count.demands},
            {"hits", count.hits},
            {"demand_bytes", count.demand_bytes},
            {"hit_bytes", count.hit_bytes},
            {"hit_rate", count.hit_rate()}};
}

Json size_json(const SizeResult& size, const Study& study) {
    Json policies = Json::object();
    for (size_t p = 0; p < study.policies.size(); ++p)
        policies[std::string(residency::to_string(study.policies[p]))] = {{"all", count_json(size.policies[p].all)},
                                                                          {"warm", count_json(size.policies[p].warm)},
                                                                          {"evictions", size.policies[p].evictions},
                                                                          {"of_belady", share_of_best(size, study, p)}};
    return {{"percent", size.percent}, {"share", size.share}, {"slots", size.slots}, {"policies", std::move(policies)}};
}

std::string study_json(const DemandTrace& trace, const Study& study) {
    Json sizes = Json::array();
    for (const SizeResult& size : study.sizes) sizes.push_back(size_json(size, study));
    const Json json = {{"model", trace.model},
                       {"replay",
                        {{"hits", study.replay.simulation.all.hits},
                         {"evictions", study.replay.simulation.evictions},
                         {"engine_hits", trace.counters.hits + trace.counters.joined},
                         {"engine_evictions", trace.counters.evictions},
                         {"agrees", study.replay.agrees}}},
                       {"sizes", std::move(sizes)}};
    return json.dump(2) + "\n";
}

Chart miss_ratio_curves(const DemandTrace& trace, const Study& study) {
    Chart chart{.title = "Miss ratio by pool size: " + trace.model,
                .x_label = "slots, % of pages",
                .y_label = "bytes missed, %"};
    for (size_t p = 0; p < study.policies.size(); ++p) {
        ChartSeries& series = chart.series.emplace_back(std::string(residency::to_string(study.policies[p])));
        for (const SizeResult& size : study.sizes)
            series.points.emplace_back(100 * size.share, 100 - 100 * size.policies[p].warm.hit_rate());
    }
    return chart;
}

Status run_simulate(const SimulateFlags& flags) {
    HYPURA_ASSIGN(const std::string text, read_text(flags.trace_path));
    HYPURA_ASSIGN(const DemandTrace trace, parse_trace(text, flags.trace_path));
    HYPURA_ASSIGN(const Study result, study(trace, flags));
    HYPURA_TRY(print_text(study_text(trace, result)));
    if (!flags.json_path.empty()) HYPURA_TRY(write_text(flags.json_path, study_json(trace, result)));
    if (!flags.plot_path.empty()) HYPURA_TRY(draw_chart(miss_ratio_curves(trace, result), flags.plot_path));
    if (!result.replay.agrees)
        return fail(ErrorCode::kMismatch, "{}: the replay does not agree with the engine's counters", flags.trace_path);
    return {};
}

}  // namespace

void add_simulate(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<SimulateFlags>();
    CLI::App* command = app.add_subcommand("simulate", "Replay a trace through replacement policies and pool sizes");
    command->add_option("TRACE", flags->trace_path, "a file that `hypura trace` wrote")->required();
    command->add_option("--pool", flags->percents, "pool sizes in percent of all pages: 25,50")
        ->delimiter(',')
        ->check(CLI::Range(1, 100));
    command->add_option("--cold-passes", flags->cold_passes, "single-token passes that do not count yet");
    command->add_flag("--experts-only", flags->filter.experts_only, "leave out dense weights");
    command->add_flag("--decode-only", flags->filter.decode_only, "leave out passes of several tokens");
    command->add_flag("--demands-only", flags->filter.demands_only,
                      "leave out prefetches, which only `shipped` replays");
    command->add_flag("--all-policies", flags->all_policies, "also policies that are not shipped");
    command->add_option("--plot", flags->plot_path, "draw miss ratio curves: FILE.svg or FILE.png");
    command->add_option("--json", flags->json_path, "write the figures to FILE");
    command->callback([flags, &context] { context.action = [flags] { return run_simulate(*flags); }; });
}

}  // namespace hypura::cli
