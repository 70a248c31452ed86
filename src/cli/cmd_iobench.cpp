// hypura iobench: what the disk gives, by request size and queue depth.
#include "base/bytes.h"
#include "cli/chart.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/text_file.h"
#include "storage/disk_probe.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <format>
#include <map>

namespace hypura::cli {
namespace {

using Json = nlohmann::ordered_json;

struct IobenchFlags {
    std::string path = ".";
    std::string io = "auto";
    std::vector<std::string> sizes;
    std::vector<uint32_t> depths;
    std::string file_size = "512MiB";
    uint32_t rounds = 2;
    double seconds = 0.15;
    std::string plot_path;
    std::string json_path;
};

// Either list may be missing: the standard one then takes its place.
Result<std::vector<storage::DiskCell>> chosen_cells(const IobenchFlags& flags) {
    std::vector<uint64_t> sizes;
    for (const std::string& text : flags.sizes) {
        HYPURA_ASSIGN(const uint64_t bytes, parse_size(text, 0, "--sizes"));
        if (bytes == 0 || bytes > kGiB)
            return fail(ErrorCode::kInvalidArgument, "--sizes: {} is not between 1 byte and 1 GiB", text);
        sizes.push_back(bytes);
    }
    std::vector<uint32_t> depths = flags.depths;
    for (const storage::DiskCell& cell : storage::standard_cells()) {
        if (flags.sizes.empty() && !std::ranges::contains(sizes, cell.request_bytes))
            sizes.push_back(cell.request_bytes);
        if (flags.depths.empty() && !std::ranges::contains(depths, cell.queue_depth))
            depths.push_back(cell.queue_depth);
    }
    std::vector<storage::DiskCell> cells;
    for (const uint64_t bytes : sizes)
        for (const uint32_t depth : depths) cells.push_back({static_cast<uint32_t>(bytes), depth});
    return cells;
}

std::string proof_text(const storage::DiskProbe& probe) {
    if (!probe.direct) return "buffered: this file system refuses direct reads, so the page cache may have answered";
    std::string text =
        std::format("direct; {} compared with buffered reads and found equal", format_bytes(probe.compared_bytes));
    return text +
           (probe.bypasses_page_cache() ? ", page cache proven idle" : "; the page cache could not be ruled out");
}

std::string probe_text(const storage::DiskProbe& probe) {
    std::string text = std::format("{} ({}), {}, {}\n\n", probe.made_file ? "a file made in " + probe.path : probe.path,
                                   format_bytes(probe.file_bytes), probe.reader, proof_text(probe));
    text += std::format("{:>10} {:>6} {:>12} {:>10} {:>10} {:>10}\n", "request", "depth", "MiB/s", "reads/s",
                        "median us", "p99 us");
    for (const storage::DiskPoint& point : probe.points)
        text += std::format("{:>10} {:>6} {:>12.1f} {:>10.0f} {:>10} {:>10}\n", format_bytes(point.cell.request_bytes),
                            point.cell.queue_depth, point.bytes_per_second / kMiB, point.reads_per_second,
                            point.median_us, point.p99_us);
    return text;
}

Json optional_json(const std::optional<uint64_t>& value) { return value ? Json(*value) : Json(); }

std::string probe_json(const storage::DiskProbe& probe) {
    Json points = Json::array();
    for (const storage::DiskPoint& point : probe.points)
        points.push_back({{"request_bytes", point.cell.request_bytes},
                          {"queue_depth", point.cell.queue_depth},
                          {"bytes_per_second", std::round(point.bytes_per_second)},
                          {"reads_per_second", point.reads_per_second},
                          {"median_us", point.median_us},
                          {"p99_us", point.p99_us},
                          {"reads", point.reads}});
    const Json json = {{"path", probe.path},
                       {"made_file", probe.made_file},
                       {"file_bytes", probe.file_bytes},
                       {"reader", probe.reader},
                       {"direct", probe.direct},
                       {"alignment_bytes", probe.alignment_bytes},
                       {"compared_bytes", probe.compared_bytes},
                       {"cached_before_bytes", optional_json(probe.cached_before_bytes)},
                       {"cached_after_bytes", optional_json(probe.cached_after_bytes)},
                       {"bypasses_page_cache", probe.bypasses_page_cache()},
                       {"points", std::move(points)}};
    return json.dump(2) + "\n";
}

Chart bandwidth_chart(const storage::DiskProbe& probe) {
    Chart chart{.title = "Direct reads: " + probe.path, .x_label = "request, KiB", .y_label = "MiB/s", .log_x = true};
    std::map<uint32_t, ChartSeries> by_depth;
    for (const storage::DiskPoint& point : probe.points)
        by_depth[point.cell.queue_depth].points.emplace_back(static_cast<double>(point.cell.request_bytes) / kKiB,
                                                             point.bytes_per_second / kMiB);
    for (auto& [depth, series] : by_depth) {
        series.name = std::format("depth {}", depth);
        chart.series.push_back(std::move(series));
    }
    return chart;
}

Status run_iobench(const Environment& environment, const IobenchFlags& flags) {
    storage::DiskProbeOptions options;
    HYPURA_ASSIGN(options.kind, parse_reader_kind(flags.io));
    HYPURA_ASSIGN(options.cells, chosen_cells(flags));
    HYPURA_ASSIGN(options.file_bytes, parse_size(flags.file_size, 0, "--file-size"));
    options.rounds = flags.rounds;
    options.cell_us = static_cast<int64_t>(flags.seconds * 1e6);
    ProgressBar bar(environment, "reading", ProgressUnit::kTokens);
    options.on_cell = [&bar](size_t done, size_t total) { bar.update(done, total); };
    HYPURA_ASSIGN(const storage::DiskProbe probe, storage::probe_disk(flags.path, options));
    bar.clear();
    HYPURA_TRY(print_text(probe_text(probe)));
    if (!flags.json_path.empty()) HYPURA_TRY(write_text(flags.json_path, probe_json(probe)));
    if (!flags.plot_path.empty()) HYPURA_TRY(draw_chart(bandwidth_chart(probe), flags.plot_path));
    return {};
}

}  // namespace

void add_iobench(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<IobenchFlags>();
    CLI::App* command = app.add_subcommand("iobench", "Measure what a disk gives, by request size and queue depth");
    command->add_option("PATH", flags->path, "a file, or a folder to make a test file in (default: this folder)");
    command->add_option("--sizes", flags->sizes, "request sizes: 64KiB,1MiB")->delimiter(',');
    command->add_option("--depths", flags->depths, "queue depths: 1,8")->delimiter(',')->check(CLI::Range(1, 1024));
    command->add_option("--file-size", flags->file_size, "of the test file");
    command->add_option("--seconds", flags->seconds, "for each size and depth, a round")
        ->check(CLI::Range(0.001, 60.0));
    command->add_option("--rounds", flags->rounds, "rounds over all of them")->check(CLI::Range(1, 100));
    command->add_option("--io", flags->io, "auto, io_uring or pread");
    command->add_option("--plot", flags->plot_path, "draw the bandwidth: FILE.svg or FILE.png");
    command->add_option("--json", flags->json_path, "write the figures to FILE");
    command->callback(
        [flags, &context] { context.action = [flags, &context] { return run_iobench(context.environment, *flags); }; });
}

}  // namespace hypura::cli
