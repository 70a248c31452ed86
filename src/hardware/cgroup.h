// Where this process's control groups are in the file system.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace hypura::hardware {

// The folders of one hierarchy from our own group up to the mount's root: limits of ancestors bind us as well.
// Paths include the `root` they were looked up under.
struct CgroupChain {
    bool unified = false;  // v2: other file names than v1
    std::vector<std::string> folders;
};

// Every hierarchy that may account for `controller` ("memory", "cpu"): v1's own, and v2's unified one. On a hybrid host
// both exist and only one carries the controller; the other one's files are missing, which means no limit.
std::vector<CgroupChain> cgroup_chains(const std::string& root, std::string_view controller);

}  // namespace hypura::hardware
