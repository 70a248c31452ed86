// Stock llama.cpp as a baseline: one llama-bench process for one case.
#pragma once

#include "cli/bench_sample.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hypura::cli {

// How llama-bench is started: its defaults, or its page-cache mode without repacked weights, which is the only one that
// a memory limit below the model's size does not kill.
struct Peer {
    std::string_view name;  // "default", "mmap"
    std::vector<std::string> arguments;
    std::string_view description;
};
const std::vector<Peer>& all_peers();

// "llama-bench: build 11669", or an error of kNotFound when it is not on PATH.
Status find_peer();

struct PeerWork {
    std::string model_path;  // the first part
    BenchCase bench_case;
    uint32_t threads = 1;
    std::string devices;  // as in EngineFlags: what hypura may use, stock llama.cpp may
};

// `cage_entrance` as in ChildSpec.
Result<PeerSample> run_peer(const Peer& peer, const PeerWork& work, const std::string& cage_entrance);

// The arguments behind the program's name.
std::vector<std::string> peer_arguments(const Peer& peer, const PeerWork& work);

}  // namespace hypura::cli
