#include "hardware/memory_cage.h"

#include "hardware/cgroup.h"
#include "hardware/text_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <format>
#include <utility>

namespace hypura::hardware {
namespace {

bool write_text(const std::string& path, const std::string& text) {
    std::FILE* const file = std::fopen(path.c_str(), "we");
    if (file == nullptr) return false;
    const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
    return std::fclose(file) == 0 && written;  // the kernel may refuse only now
}

// Files that a kernel without swap accounting lacks are no reason to give up.
bool set_limit(const std::string& folder, bool unified, uint64_t limit_bytes) {
    const std::string limit = std::to_string(limit_bytes);
    if (!write_text(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"), limit)) return false;
    if (unified)
        write_text(folder + "/memory.swap.max", "0");
    else
        write_text(folder + "/memory.swappiness", "0");
    return true;
}

}  // namespace

Result<MemoryCage> MemoryCage::create(uint64_t limit_bytes, const std::string& root) {
    std::string reason = "there is no memory controller";
    for (const CgroupChain& chain : cgroup_chains(root, "memory")) {
        for (const std::string& parent : chain.folders) {
            const std::string folder = std::format("{}/hypura-{}", parent, ::getpid());
            if (::mkdir(folder.c_str(), 0755) != 0) {
                reason = error_from_errno(errno, "make a control group", folder).message;
                continue;
            }
            if (set_limit(folder, chain.unified, limit_bytes)) return MemoryCage(folder, chain.unified);
            reason = std::format("{} takes no memory limit", folder);
            ::rmdir(folder.c_str());
        }
    }
    return fail(ErrorCode::kUnsupportedHost, "no memory limit can be set here: {}", reason);
}

MemoryCage::MemoryCage(MemoryCage&& other) noexcept
    : folder_(std::exchange(other.folder_, {})), unified_(other.unified_) {}

MemoryCage::~MemoryCage() {
    if (!folder_.empty()) ::rmdir(folder_.c_str());
}

uint64_t MemoryCage::kills() const {
    const std::string text = read_text(folder_ + (unified_ ? "/memory.events" : "/memory.oom_control")).value_or("");
    return keyed_number(text, "oom_kill").value_or(0);
}

}  // namespace hypura::hardware
