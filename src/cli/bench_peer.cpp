#include "cli/bench_peer.h"

#include "cli/child_process.h"

#include <algorithm>
#include <format>
#include <optional>

namespace hypura::cli {
namespace {

constexpr const char* kProgram = "llama-bench";

uint32_t tests_of(const BenchCase& bench_case) { return bench_case.decode && bench_case.warm_up_tokens > 0 ? 2 : 1; }

// Follows llama-bench's own words ("llama-bench: benchmark 2/2: generation run 1/1", then a line of JSON) to know when
// the measured stretch begins and ends.
class StretchWatch {
public:
    explicit StretchWatch(uint32_t tests) : tests_(tests) {}

    void hear(pid_t child, ChildStream stream, std::string_view line) {
        if (stream == ChildStream::kErr && begins_measured_run(line)) begin_ = cost_of(child);
        if (stream != ChildStream::kOut || !line.starts_with('{')) return;
        if (++results_ == tests_) end_ = cost_of(child);
        last_result_ = line;
    }
    const std::string& last_result() const { return last_result_; }
    bool complete() const { return results_ == tests_; }
    std::optional<ProcessCost> cost() const {
        if (!begin_ || !end_ || end_->minor_faults < begin_->minor_faults) return std::nullopt;
        return *end_ - *begin_;
    }

private:
    bool begins_measured_run(std::string_view line) const {
        return line.contains(std::format("benchmark {}/{}: ", tests_, tests_)) && !line.contains("warmup") &&
               (line.contains(": generation run") || line.contains(": prompt run"));
    }

    uint32_t tests_;
    uint32_t results_ = 0;
    std::string last_result_;
    std::optional<ProcessCost> begin_, end_;
};

std::string last_line(const std::string& text) {
    const size_t end = text.find_last_not_of('\n');
    if (end == std::string::npos) return "it said nothing";
    const size_t begin = text.rfind('\n', end);
    return text.substr(begin == std::string::npos ? 0 : begin + 1,
                       end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

// llama-bench takes a list with commas as one run for each.
std::string peer_devices(std::string devices) {
    std::ranges::replace(devices, ',', '/');
    return devices;
}

std::string failure_of(const ChildResult& result) {
    if (result.signal == 9) return "killed (SIGKILL)";
    if (result.signal != 0) return std::format("ended by signal {}", result.signal);
    return std::format("exit status {}: {}", result.exit_code, last_line(result.err));
}

}  // namespace

const std::vector<Peer>& all_peers() {
    static const std::vector<Peer> peers = {
        {"mmap", {"-lm", "mmap", "--repack", "0"}, "llama-bench -lm mmap --repack 0"},
        {"default", {}, "llama-bench with its default options"},
    };
    return peers;
}

Status find_peer() {
    HYPURA_TRY(run_child({.arguments = {kProgram, "--version"}}));
    return {};
}

std::vector<std::string> peer_arguments(const Peer& peer, const PeerWork& work) {
    const BenchCase& bench_case = work.bench_case;
    std::vector<std::string> arguments = {"-m", work.model_path, "-t",        std::to_string(work.threads), "-r", "1",
                                          "-o", "jsonl",         "--progress"};
    arguments.insert(arguments.end(), peer.arguments.begin(), peer.arguments.end());
    if (!work.devices.empty()) arguments.insert(arguments.end(), {"-dev", peer_devices(work.devices)});
    if (!bench_case.decode) {
        arguments.insert(arguments.end(), {"-p", std::to_string(bench_case.tokens), "-n", "0"});
        return arguments;
    }
    const std::string tokens = bench_case.warm_up_tokens > 0
                                   ? std::format("{},{}", bench_case.warm_up_tokens, bench_case.tokens)
                                   : std::to_string(bench_case.tokens);
    arguments.insert(arguments.end(), {"-p", "0", "-n", tokens, "-d", std::to_string(bench_case.prompt_tokens)});
    return arguments;
}

Result<PeerSample> run_peer(const Peer& peer, const PeerWork& work, const std::string& cage_entrance) {
    StretchWatch watch(tests_of(work.bench_case));
    ChildSpec spec{.arguments = peer_arguments(peer, work), .cage_entrance = cage_entrance};
    spec.arguments.insert(spec.arguments.begin(), kProgram);
    spec.on_line = [&watch](pid_t child, ChildStream stream, std::string_view line) {
        watch.hear(child, stream, line);
    };
    HYPURA_ASSIGN(const ChildResult result, run_child(spec));
    PeerSample sample{.wall_us = result.wall_us};
    const auto json = nlohmann::json::parse(watch.last_result(), nullptr, false);
    if (!watch.complete() || !json.is_object() || !json.contains("avg_ts")) {
        sample.failure = failure_of(result);
        return sample;
    }
    sample.tokens_per_second = json["avg_ts"].get<double>();
    if (const auto cost = watch.cost()) {
        sample.bytes_per_token = static_cast<double>(cost->read_bytes) / work.bench_case.tokens;
        sample.minor_faults_per_token = static_cast<double>(cost->minor_faults) / work.bench_case.tokens;
        sample.major_faults_per_token = static_cast<double>(cost->major_faults) / work.bench_case.tokens;
    }
    return sample;
}

}  // namespace hypura::cli
