#include "hardware/host_settings.h"

#include "base/bytes.h"
#include "hardware/text_file.h"

#include <sys/resource.h>
#include <sys/utsname.h>

#include <filesystem>
#include <system_error>

namespace hypura::hardware {
namespace {

std::optional<uint64_t> memlock_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
    return limit.rlim_cur;
}

// "always [madvise] never": the one in brackets is in force.
std::string bracketed(const std::string& text) {
    const size_t begin = text.find('[');
    const size_t end = text.find(']', begin == std::string::npos ? 0 : begin);
    return begin == std::string::npos || end == std::string::npos ? "" : text.substr(begin + 1, end - begin - 1);
}

bool exists(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
}

std::string kernel_release() {
    utsname names{};
    return ::uname(&names) == 0 ? names.release : "";
}

}  // namespace

HostSettings host_settings(const std::string& root) {
    HostSettings settings;
    settings.memlock_bytes = memlock_limit();
    settings.huge_pages = bracketed(read_text(root + "/sys/kernel/mm/transparent_hugepage/enabled").value_or(""));
    const std::string meminfo = read_text(root + "/proc/meminfo").value_or("");
    settings.swap_bytes = keyed_number(meminfo, "SwapTotal").value_or(0) * kKiB;
    const uint64_t free_bytes = keyed_number(meminfo, "SwapFree").value_or(0) * kKiB;
    settings.swap_used_bytes = settings.swap_bytes - std::min(settings.swap_bytes, free_bytes);
    settings.kernel = kernel_release();
    settings.gpu_driver = exists(root + "/proc/driver/nvidia/version") || exists(root + "/dev/dri/renderD128") ||
                          exists(root + "/dev/kfd");
    return settings;
}

}  // namespace hypura::hardware
