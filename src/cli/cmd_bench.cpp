// hypura bench: hypura and stock llama.cpp on the same model, in turns, under the same memory limit. What each figure
// means is in bench_metrics.h; each program runs as a child process, hypura too.
#include "base/bytes.h"
#include "base/unique_fd.h"
#include "cli/bench_ceiling.h"
#include "cli/bench_child.h"
#include "cli/bench_peer.h"
#include "cli/bench_report.h"
#include "cli/child_process.h"
#include "cli/console.h"
#include "cli/options.h"
#include "cli/text_file.h"
#include "gguf/reader.h"
#include "hardware/memory.h"
#include "hardware/memory_cage.h"
#include "storage/disk_probe.h"

#include <CLI/CLI.hpp>

#include <fcntl.h>

#include <algorithm>
#include <format>
#include <optional>

namespace hypura::cli {
namespace {

struct BenchFlags {
    EngineFlags engine;
    std::string limit;
    std::vector<uint32_t> prompts = {128, 512, 4096};
    uint32_t depth_tokens = 128;
    uint32_t warm_up_tokens = 32;
    uint32_t decode_tokens = 100;
    uint32_t rounds = 3;
    double ceiling_seconds = 3;
    std::vector<std::string> peers = {"mmap", "default"};
    std::string cache = "drop";
    std::string json_path;
    std::string plot_path;
    std::string child;   // hidden: be the child
    ChildExtras extras;  // hidden: of the child
    bool quick = false;
    bool no_floor = false;
};

// `--quick`: enough to see that it works, not to quote.
void make_quick(BenchFlags& flags) {
    flags.prompts = {128};
    flags.warm_up_tokens = 4;
    flags.decode_tokens = 16;
    flags.rounds = 1;
}

std::vector<BenchCase> cases_of(const BenchFlags& flags) {
    std::vector<BenchCase> cases;
    for (const uint32_t tokens : flags.prompts)
        if (tokens > 0) cases.push_back({.tokens = tokens});
    if (flags.decode_tokens > 0) cases.push_back({true, flags.depth_tokens, flags.warm_up_tokens, flags.decode_tokens});
    return cases;
}

// ---- children ------------------------------------------------------------------------------------------------------

uint32_t context_of(const BenchCase& bench_case) {
    return bench_case.decode ? bench_case.prompt_tokens + std::max(bench_case.warm_up_tokens, bench_case.tokens) + 1
                             : bench_case.tokens;
}

void add_option(std::vector<std::string>& arguments, const char* name, const std::string& value) {
    if (!value.empty()) arguments.insert(arguments.end(), {name, value});
}

// This program once more, for one case.
std::vector<std::string> child_arguments(const EngineFlags& flags, const BenchCase& bench_case) {
    const uint32_t context = flags.context_tokens > 0 ? flags.context_tokens : context_of(bench_case);
    std::vector<std::string> arguments = {"/proc/self/exe", "bench", flags.model_path, "--child", bench_case.text()};
    add_option(arguments, "--mode", flags.mode);
    add_option(arguments, "--ram", flags.ram);
    add_option(arguments, "--weights", flags.weights);
    add_option(arguments, "--io", flags.io);
    add_option(arguments, "--kv", flags.cache_type);
    add_option(arguments, "--device", flags.devices);
    add_option(arguments, "--vram", flags.vram);
    add_option(arguments, "--gpu-layers", flags.gpu_layers ? std::to_string(*flags.gpu_layers) : "");
    add_option(arguments, "--rpc", flags.rpc_servers);
    add_option(arguments, "--ctx", std::to_string(context));
    add_option(arguments, "--batch", flags.batch_tokens ? std::to_string(*flags.batch_tokens) : "");
    add_option(arguments, "--threads", std::to_string(flags.threads));
    return arguments;
}

OurRun failed_run(std::string failure) {
    OurRun run;
    run.failure = std::move(failure);
    return run;
}

OurRun run_of(const ChildResult& child) {
    if (child.signal != 0) return failed_run(std::format("ended by signal {}", child.signal));
    const auto json = nlohmann::json::parse(child.out, nullptr, false);
    if (child.exit_code != 0 || !json.is_object()) return failed_run("it failed: " + child.err);
    OurRun run;
    run.report = json.get<ChildReport>();
    return run;
}

// ---- the bench -----------------------------------------------------------------------------------------------------

class Bench {
public:
    explicit Bench(const BenchFlags& flags) : flags_(flags) {}

    Result<BenchResult> run();

private:
    Status prepare();
    Status look_for_peers();
    Status try_limit();
    Status prepare_cache();
    Result<std::optional<hardware::MemoryCage>> cage();
    Status run_ours(CaseResult& result, uint32_t round);
    Status run_theirs(const Peer& peer, CaseResult& result);
    Status find_floor(CaseResult& result);
    bool fits_machine() const;
    void note(std::string text) { result_.notes.push_back(std::move(text)); }

    const BenchFlags& flags_;
    std::vector<std::string> paths_;  // of the model's parts
    std::vector<const Peer*> peers_;
    BenchResult result_;
};

Status Bench::prepare() {
    HYPURA_ASSIGN(const gguf::ModelFile file, gguf::open_model(flags_.engine.model_path));
    paths_ = part_paths(file);
    result_.model = flags_.engine.model_path.substr(flags_.engine.model_path.rfind('/') + 1);
    result_.model_bytes = file.tensor_bytes;
    result_.threads = flags_.engine.threads > 0 ? flags_.engine.threads : hardware::usable_cores();
    result_.rounds = flags_.rounds;
    result_.cache = flags_.cache == "drop" ? "dropped before each run" : "left as it was";
    for (const BenchCase& bench_case : cases_of(flags_)) result_.cases.push_back({.bench_case = bench_case});
    if (flags_.quick) note("--quick: too few tokens and runs to quote");
    HYPURA_TRY(try_limit());
    return look_for_peers();
}

Status Bench::look_for_peers() {
    if (flags_.peers.empty() || flags_.peers.front() == "none") return {};
    for (const std::string& name : flags_.peers) {
        const auto found = std::ranges::find(all_peers(), name, &Peer::name);
        if (found == all_peers().end())
            return fail(ErrorCode::kInvalidArgument, "--peers: '{}' is none of mmap, default and none", name);
        peers_.push_back(&*found);
    }
    const Status found = find_peer();
    if (found) return {};
    if (found.error().code != ErrorCode::kNotFound) return found;
    peers_.clear();
    note("llama-bench is not on PATH, so nothing is compared (Debian and Ubuntu: llama.cpp-tools)");
    return {};
}

Status Bench::try_limit() {
    if (flags_.limit.empty()) {
        note("no --limit: all of the machine's memory helps every program");
        return {};
    }
    HYPURA_ASSIGN(const hardware::MemoryLimits limits, hardware::memory_limits());
    HYPURA_ASSIGN(result_.limit_bytes, parse_size(flags_.limit, limits.usable_bytes(), "--limit"));
    const auto tried = hardware::MemoryCage::create(result_.limit_bytes);
    if (tried) {
        result_.limit_kind = tried->kind();
        return {};
    }
    note(tried.error().message + "; the runs are not limited" +
         (flags_.engine.ram == "auto" ? ", and hypura takes what there is: give --ram" : ""));
    result_.limit_bytes = 0;
    return {};
}

// Also so that the next program's pages are charged to its own group: what another one left behind would be free to it.
Status Bench::prepare_cache() {
    if (flags_.cache != "drop") return {};
    uint64_t left_bytes = 0;
    for (const std::string& path : paths_) {
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd.valid()) return std::unexpected(error_from_errno(errno, "open the file", path));
        ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
        left_bytes +=
            storage::cached_bytes(fd.get(), static_cast<uint64_t>(::lseek(fd.get(), 0, SEEK_END))).value_or(0);
    }
    const std::string text =
        std::format("{} of the model stayed in the page cache although it was dropped", format_bytes(left_bytes));
    if (left_bytes > result_.model_bytes / 100 && !std::ranges::contains(result_.notes, text)) note(text);
    return {};
}

Result<std::optional<hardware::MemoryCage>> Bench::cage() {
    if (result_.limit_bytes == 0) return std::nullopt;
    HYPURA_ASSIGN(hardware::MemoryCage made, hardware::MemoryCage::create(result_.limit_bytes));
    return made;
}

Status Bench::run_ours(CaseResult& result, uint32_t round) {
    HYPURA_TRY(prepare_cache());
    HYPURA_ASSIGN(const auto limit, cage());
    HYPURA_ASSIGN(const ChildResult child, run_child({.arguments = child_arguments(flags_.engine, result.bench_case),
                                                      .cage_entrance = limit ? limit->entrance() : ""}));
    OurRun run = run_of(child);
    if (!run.failure.empty() && limit && limit->kills() > 0) run.failure = "killed by the memory limit";
    if (run.failure.empty()) {
        HYPURA_ASSIGN(const storage::ReaderKind kind, parse_reader_kind(flags_.engine.io));
        HYPURA_ASSIGN(const Ceiling ceiling,
                      measure_ceiling(paths_, run.report.slices, kind, flags_.ceiling_seconds, round));
        run.ceiling_bytes_per_second = ceiling.bytes_per_second;
        run.ceiling_depth = ceiling.depth;
    }
    print_note(std::format(
        "{}: hypura {}\n", result.bench_case.name(),
        run.failure.empty() ? std::format("{:.2f} tok/s", run.report.measured.tokens_per_second()) : run.failure));
    result.runs.push_back(std::move(run));
    return {};
}

Status Bench::run_theirs(const Peer& peer, CaseResult& result) {
    HYPURA_TRY(prepare_cache());
    HYPURA_ASSIGN(const auto limit, cage());
    const PeerWork work{paths_.front(), result.bench_case, result_.threads, flags_.engine.devices};
    HYPURA_ASSIGN(PeerSample sample, run_peer(peer, work, limit ? limit->entrance() : ""));
    if (!sample.failure.empty() && limit && limit->kills() > 0) sample.failure = "killed by the memory limit";
    print_note(
        std::format("{}: llama.cpp {} {}\n", result.bench_case.name(), peer.name,
                    sample.failure.empty() ? std::format("{:.2f} tok/s", sample.tokens_per_second) : sample.failure));
    result.peers[std::string(peer.name)].push_back(std::move(sample));
    return {};
}

// Weights, what slots add to them, and a context.
bool Bench::fits_machine() const {
    const auto limits = hardware::memory_limits();
    return limits && limits->usable_bytes() > result_.model_bytes + result_.model_bytes / 4 + kGiB;
}

// The same work without a limit and with room for everything, the measured tokens run twice: the second run waits for
// nothing (it may read what it guesses wrongly). It still goes through the streamer, so it is the same graph with the
// same cuts and the same kernels. A third run is that beside as many reads as the limited runs made.
Status Bench::find_floor(CaseResult& result) {
    result.floor = estimated_floor(result.runs);
    const bool streamed =
        std::ranges::any_of(result.runs, [](const OurRun& run) { return run.report.mode == "stream"; });
    if (flags_.no_floor || !streamed || !fits_machine()) return {};
    EngineFlags flags = flags_.engine;
    flags.mode = "stream";
    flags.ram = "auto";
    flags.weights = std::to_string(result_.model_bytes + result_.model_bytes / 4);
    ChildSpec spec{.arguments = child_arguments(flags, result.bench_case)};
    const uint64_t read_bytes = median_read_bytes_per_token(result.runs);
    spec.arguments.insert(spec.arguments.end(), {"--repeat", "--beside", std::to_string(read_bytes)});
    HYPURA_ASSIGN(const ChildResult child, run_child(spec));
    const OurRun run = run_of(child);
    const Stretch& stretch = run.report.measured;
    if (!run.failure.empty() || stretch.tokens == 0 || stretch.hits + stretch.joined < stretch.demands) {
        note("the compute floor could not be measured: " +
             (run.failure.empty() ? std::string("the second run still read") : run.failure));
        return {};
    }
    result.floor = measured_floor(run.report, read_bytes);
    return {};
}

Result<BenchResult> Bench::run() {
    HYPURA_TRY(prepare());
    for (uint32_t round = 0; round < flags_.rounds; ++round) {
        for (CaseResult& result : result_.cases) {
            HYPURA_TRY(run_ours(result, round));
            for (const Peer* peer : peers_) HYPURA_TRY(run_theirs(*peer, result));
        }
    }
    for (CaseResult& result : result_.cases) HYPURA_TRY(find_floor(result));
    return std::move(result_);
}

// ---- the command ---------------------------------------------------------------------------------------------------

Status run_bench(const BenchFlags& given) {
    if (!given.child.empty()) {
        HYPURA_ASSIGN(const BenchCase bench_case, parse_bench_case(given.child));
        return run_bench_child(given.engine, bench_case, given.extras);
    }
    BenchFlags flags = given;
    if (flags.quick) make_quick(flags);
    HYPURA_ASSIGN(const BenchResult result, Bench(flags).run());
    HYPURA_TRY(print_text(bench_text(result)));
    if (!flags.json_path.empty()) HYPURA_TRY(write_text(flags.json_path, bench_json(result)));
    if (!flags.plot_path.empty()) HYPURA_TRY(draw_chart(bench_chart(result), flags.plot_path));
    const bool failed =
        std::ranges::any_of(result.cases, [](const CaseResult& entry) { return our_rates(entry).empty(); });
    if (failed) return fail(ErrorCode::kInternal, "hypura itself failed in a case; see above");
    return {};
}

Status print_report(const std::vector<std::string>& paths) {
    std::vector<std::string> texts;
    for (const std::string& path : paths) {
        HYPURA_ASSIGN(texts.emplace_back(), read_text(path));
    }
    HYPURA_ASSIGN(const std::string markdown, bench_markdown(texts));
    return print_text(markdown);
}

void add_measuring_flags(CLI::App& command, BenchFlags& flags) {
    constexpr const char* kMeasuring = "Measuring";
    command.add_option("--limit", flags.limit, "memory limit of each program, by a control group: 4GiB")
        ->group(kMeasuring);
    command.add_option("--prompts", flags.prompts, "prompt lengths, in tokens: 128,512 (0: none)")
        ->delimiter(',')
        ->group(kMeasuring);
    command.add_option("--tokens", flags.decode_tokens, "tokens decoded and measured (0: none)")->group(kMeasuring);
    command.add_option("--warm-up", flags.warm_up_tokens, "tokens decoded before them")->group(kMeasuring);
    command.add_option("--depth", flags.depth_tokens, "prompt tokens before those")->group(kMeasuring);
    command.add_option("--rounds", flags.rounds, "runs of each program, in turns")
        ->check(CLI::Range(1, 100))
        ->group(kMeasuring);
    command.add_option("--peers", flags.peers, "mmap, default or none: what to compare with")
        ->delimiter(',')
        ->group(kMeasuring);
    command.add_option("--cache", flags.cache, "drop the page cache before each run, or keep it")
        ->check(CLI::IsMember({"drop", "keep"}))
        ->group(kMeasuring);
    command.add_option("--ceiling-seconds", flags.ceiling_seconds, "for measuring the disk after each run of hypura")
        ->check(CLI::Range(0.01, 60.0))
        ->group(kMeasuring);
    command.add_flag("--no-floor", flags.no_floor, "estimate the compute floor instead of measuring it")
        ->group(kMeasuring);
    command.add_flag("--quick", flags.quick, "one short round, to see that it works")->group(kMeasuring);
    command.add_option("--json", flags.json_path, "write every figure to FILE")->group(kMeasuring);
    command.add_option("--plot", flags.plot_path, "draw the comparison: FILE.svg or FILE.png")->group(kMeasuring);
    command.add_option("--child", flags.child, "run one case here and print what it took")->group("");
    command.add_flag("--repeat", flags.extras.repeat, "of --child: run it twice, report the second")->group("");
    command.add_option("--beside", flags.extras.side_bytes_per_token, "of --repeat: then beside reads, BYTES a token")
        ->group("");
}

}  // namespace

void add_bench(CLI::App& app, CommandContext& context) {
    auto flags = std::make_shared<BenchFlags>();
    CLI::App* command =
        app.add_subcommand("bench", "Compare the speed with stock llama.cpp, and with what is possible");
    add_engine_flags(*command, flags->engine, context.environment);
    add_measuring_flags(*command, *flags);
    command->callback([flags, &context] { context.action = [flags] { return run_bench(*flags); }; });

    auto paths = std::make_shared<std::vector<std::string>>();
    CLI::App* report = app.add_subcommand("bench-report", "Print a Markdown table of files that `bench --json` wrote");
    report->add_option("FILES", *paths, "in the order of the rows")->required();
    report->callback([paths, &context] { context.action = [paths] { return print_report(*paths); }; });
}

}  // namespace hypura::cli
