#include "cli/bench_report.h"

#include "base/bytes.h"
#include "cli/bench_peer.h"

#include <algorithm>
#include <cmath>
#include <format>

namespace hypura::cli {
namespace {

using Json = nlohmann::json;  // the records of bench_sample.h know no other

// ---- text ----------------------------------------------------------------------------------------------------------

std::string number(double value, int digits) {
    return std::isnan(value) ? std::string("-") : std::format("{:.{}f}", value, digits);
}

std::string bytes_or_dash(double value) {
    return std::isnan(value) ? std::string("-") : format_bytes(static_cast<uint64_t>(value));
}

std::string head_text(const BenchResult& result) {
    std::string text = std::format("{}, {}\n", result.model, format_bytes(result.model_bytes));
    text += result.limit_bytes == 0
                ? std::string("memory    no limit\n")
                : std::format("memory    {} for each program by {} (model / limit = {:.2f})\n",
                              format_bytes(result.limit_bytes), result.limit_kind,
                              static_cast<double>(result.model_bytes) / static_cast<double>(result.limit_bytes));
    text += std::format("runs      {} of each, taking turns; page cache {}; {} threads\n", result.rounds, result.cache,
                        result.threads);
    text += "tokens    random, the ones that llama-bench draws (unseeded rand()), the same in every program\n";
    for (const std::string& note : result.notes) text += "note      " + note + "\n";
    return text;
}

std::string rates_line(std::string_view name, const std::vector<double>& rates, double ours) {
    std::string text = std::format("  {:<20} {:>9.2f} tok/s  ", name, median(rates));
    text += rates.size() < 2 ? std::string("one run      ") : std::format("spread {:>5.1f}%", 100 * spread(rates));
    return text + (ours > 0 ? std::format("  hypura is {:.2f}x\n", ours / median(rates)) : std::string("\n"));
}

std::string speed_text(const CaseResult& result) {
    const std::vector<double> ours = our_rates(result);
    std::string text;
    if (!ours.empty()) text += rates_line("hypura", ours, 0);
    for (const OurRun& run : result.runs)
        if (!run.failure.empty()) text += std::format("  {:<20} failed: {}\n", "hypura", run.failure);
    for (const auto& [name, samples] : result.peers) {
        const std::vector<double> theirs = peer_rates(samples);
        const std::string label = "llama.cpp " + name;
        if (!theirs.empty()) text += rates_line(label, theirs, median(ours));
        for (const PeerSample& sample : samples)
            if (!sample.failure.empty()) text += std::format("  {:<20} failed: {}\n", label, sample.failure);
    }
    return text;
}

// What reads take from the computation although nobody waits for them.
std::string beside_reads_text(const Metrics& metrics) {
    const double compute_us = metric(metrics, "compute_beside_reads_us_per_token");
    if (std::isnan(compute_us)) return "";
    return std::format(
        "  compute floor beside as many reads that nobody waits for {} ms; roofline fraction with that {}\n",
        number(compute_us / 1e3, 2), number(metric(metrics, "roofline_fraction_beside_reads"), 3));
}

std::string roofline_text(const Metrics& metrics, const ComputeFloor& floor) {
    return std::format(
        "  per token: {} ms; compute floor {} ms ({}); {} read, {} ms at the disk's {}/s\n"
        "  roofline fraction {}, bandwidth fraction {}, duty cycle {}, overlap fraction {}\n{}",
        number(metric(metrics, "us_per_token") / 1e3, 2), number(metric(metrics, "compute_us_per_token") / 1e3, 2),
        floor.how, bytes_or_dash(metric(metrics, "read_bytes_per_token")),
        number(metric(metrics, "io_us_per_token") / 1e3, 2), bytes_or_dash(metric(metrics, "ceiling_bytes_per_second")),
        number(metric(metrics, "roofline_fraction"), 3), number(metric(metrics, "bandwidth_fraction"), 3),
        number(metric(metrics, "duty_cycle"), 3), number(metric(metrics, "overlap_fraction"), 3),
        beside_reads_text(metrics));
}

std::string cache_text(const Metrics& metrics) {
    return std::format(
        "  hit rate {}, prefetch coverage {}, precision {}, waste {}\n"
        "  I/O CPU {} s/GiB, faults per token {} minor, {} major; the process took {} a token from devices\n",
        number(metric(metrics, "hit_rate"), 4), number(metric(metrics, "prefetch_coverage"), 3),
        number(metric(metrics, "prefetch_precision"), 3), number(metric(metrics, "prefetch_waste"), 3),
        number(metric(metrics, "io_cpu_seconds_per_gib"), 3), number(metric(metrics, "minor_faults_per_token"), 1),
        number(metric(metrics, "major_faults_per_token"), 2),
        bytes_or_dash(metric(metrics, "process_bytes_per_token")));
}

// Where the page cache was dropped, this is a cold start.
std::string start_text(const Metrics& metrics) {
    const double start_us = metric(metrics, "cold_first_token_us");
    if (std::isnan(start_us)) return "";
    return std::format(
        "  first token {} s after the start of the program; what it read takes {} s at the disk's rate\n",
        number(start_us / 1e6, 2), number(metric(metrics, "cold_io_us") / 1e6, 2));
}

std::string mode_text(const CaseResult& result) {
    if (result.runs.empty() || !result.runs.front().failure.empty()) return "";
    const ChildReport& report = result.runs.front().report;
    return std::format("  mode {}: {}; {} in memory, {} of slots, passes of at most {}, loaded in {:.2f} s\n",
                       report.mode, report.reason, format_bytes(report.resident_bytes), format_bytes(report.slot_bytes),
                       report.batch_tokens, static_cast<double>(report.load_us) / 1e6);
}

// ---- JSON ----------------------------------------------------------------------------------------------------------

Json runs_json(const CaseResult& result) {
    Json runs = Json::array();
    for (OurRun run : result.runs) {
        run.report.slices.clear();  // thousands of numbers that nobody reads
        runs.push_back(run);
    }
    return runs;
}

Json peers_json(const CaseResult& result) {
    Json peers = Json::object();
    const double ours = median(our_rates(result));
    for (const auto& [name, samples] : result.peers) {
        const std::vector<double> rates = peer_rates(samples);
        peers[name] = {{"tokens_per_second", median(rates)},
                       {"spread", spread(rates)},
                       {"hypura_is_times", rates.empty() ? Json() : Json(ours / median(rates))},
                       {"runs", samples}};
    }
    return peers;
}

Json case_json(const CaseResult& result) {
    Json metrics = Json::object();
    for (const auto& [name, value] : median_metrics(result)) metrics[name] = std::isnan(value) ? Json() : Json(value);
    const std::vector<double> ours = our_rates(result);
    return {{"name", result.bench_case.name()}, {"case", result.bench_case.text()}, {"tokens_per_second", median(ours)},
            {"spread", spread(ours)},           {"metrics", std::move(metrics)},    {"floor", result.floor},
            {"peers", peers_json(result)},      {"runs", runs_json(result)}};
}

// ---- Markdown ------------------------------------------------------------------------------------------------------

std::string cell(const Json& value, int digits, double factor = 1) {
    return value.is_number() ? std::format("{:.{}f}", value.get<double>() * factor, digits) : std::string("–");
}

std::string peer_cell(const Json& peers, const char* name) {
    if (!peers.contains(name)) return "–";
    const Json& peer = peers[name];
    if (!peer["hypura_is_times"].is_number()) return peer["runs"].empty() ? "–" : "failed";
    return std::format("{} ({}×)", cell(peer["tokens_per_second"], 2), cell(peer["hypura_is_times"], 2));
}

std::string markdown_row(const Json& file, const Json& entry) {
    const Json& metrics = entry.at("metrics");
    const auto limit_bytes = file.at("limit_bytes").get<uint64_t>();
    return std::format("| {} | {} | {} | {} ±{} % | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
                       file.at("model").get<std::string>(), limit_bytes == 0 ? "none" : format_bytes(limit_bytes),
                       entry.at("name").get<std::string>(), cell(entry.at("tokens_per_second"), 2),
                       cell(entry.at("spread"), 0, 50), peer_cell(entry.at("peers"), "mmap"),
                       peer_cell(entry.at("peers"), "default"), cell(metrics.value("roofline_fraction", Json()), 3),
                       cell(metrics.value("roofline_fraction_beside_reads", Json()), 3),
                       cell(metrics.value("bandwidth_fraction", Json()), 3),
                       cell(metrics.value("overlap_fraction", Json()), 3), cell(metrics.value("hit_rate", Json()), 3),
                       cell(metrics.value("read_bytes_per_token", Json()), 1, 1.0 / kMiB),
                       cell(metrics.value("io_cpu_seconds_per_gib", Json()), 3),
                       cell(metrics.value("major_faults_per_token", Json()), 2));
}

constexpr std::string_view kMarkdownHead =
    "| model | limit | case | hypura tok/s | mmap (ratio) | default (ratio) | roofline | beside reads | bandwidth | "
    "overlap | hit rate | "
    "MiB/token | I/O CPU s/GiB | major faults/token |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";

}  // namespace

std::string bench_text(const BenchResult& result) {
    std::string text = head_text(result);
    for (const CaseResult& entry : result.cases) {
        const Metrics metrics = median_metrics(entry);
        text += "\n" + entry.bench_case.name() + "\n" + speed_text(entry);
        if (metrics.empty()) continue;
        text += mode_text(entry) + roofline_text(metrics, entry.floor) + cache_text(metrics) + start_text(metrics);
    }
    return text;
}

std::string bench_json(const BenchResult& result) {
    Json cases = Json::array();
    for (const CaseResult& entry : result.cases) cases.push_back(case_json(entry));
    const Json json = {{"hypura_bench", 1},
                       {"model", result.model},
                       {"model_bytes", result.model_bytes},
                       {"limit_bytes", result.limit_bytes},
                       {"limit_kind", result.limit_kind},
                       {"cache", result.cache},
                       {"threads", result.threads},
                       {"rounds", result.rounds},
                       {"notes", result.notes},
                       {"cases", std::move(cases)}};
    return json.dump(2) + "\n";
}

Result<std::string> bench_markdown(const std::vector<std::string>& texts) {
    std::string markdown(kMarkdownHead);
    for (const std::string& text : texts) {
        try {
            const Json file = Json::parse(text);
            for (const Json& entry : file.at("cases")) markdown += markdown_row(file, entry);
        } catch (const nlohmann::json::exception& error) {
            return fail(ErrorCode::kInvalidArgument, "--report: not a file that `hypura bench --json` wrote: {}",
                        error.what());
        }
    }
    return markdown;
}

Chart bench_chart(const BenchResult& result) {
    Chart chart{.title = std::format("{}, {}", result.model,
                                     result.limit_bytes == 0 ? std::string("no memory limit")
                                                             : format_bytes(result.limit_bytes) + " of memory"),
                .y_label = "tokens per second",
                .bars = true};
    std::vector<std::string> programs = {"hypura"};
    for (const Peer& peer : all_peers())
        if (std::ranges::any_of(result.cases,
                                [&](const CaseResult& entry) { return entry.peers.contains(std::string(peer.name)); }))
            programs.emplace_back(peer.name);
    for (const CaseResult& entry : result.cases) chart.categories.push_back(entry.bench_case.name());
    for (const std::string& program : programs) {
        ChartSeries& series = chart.series.emplace_back(program == "hypura" ? program : "llama.cpp " + program);
        for (const CaseResult& entry : result.cases) {
            const auto samples = entry.peers.find(program);
            const double rate = program == "hypura"            ? median(our_rates(entry))
                                : samples == entry.peers.end() ? 0
                                                               : median(peer_rates(samples->second));
            series.points.emplace_back(0, rate);
        }
    }
    return chart;
}

}  // namespace hypura::cli
