// What `hypura doctor` looks at and how it judges it: a pure function from facts to lines, so that hosts that nobody
// has at hand can be tested.
#pragma once

#include "base/status.h"
#include "hardware/disk_info.h"
#include "hardware/host_settings.h"
#include "hardware/memory.h"
#include "placement/machine.h"
#include "storage/disk_probe.h"

#include <string>
#include <vector>

namespace hypura::cli {

struct HostFacts {
    hardware::HostSettings settings;
    hardware::MemoryLimits memory;
    hardware::DiskInfo disk;
    Result<storage::DiskProbe> probe = fail(ErrorCode::kNotFound, "not looked at");  // a small one, of direct reads
    Status io_uring;                                                                 // an error says why not
    std::vector<placement::ComputeDevice> devices;                                   // as libggml lists them
};

enum class Verdict {
    kGood,
    kAdvice,  // works, and could work better
    kStops    // hypura cannot run
};

struct Finding {
    std::string subject;
    std::string found;
    Verdict verdict = Verdict::kGood;
    std::string advice;  // what to change; empty when good
};

std::vector<Finding> judge(const HostFacts& facts);

bool stops(const std::vector<Finding>& findings);
std::string findings_text(const std::vector<Finding>& findings);
std::string findings_json(const std::vector<Finding>& findings);

}  // namespace hypura::cli
