#include "hardware/cgroup.h"

#include "hardware/text_file.h"

#include <algorithm>
#include <filesystem>
#include <optional>

namespace hypura::hardware {
namespace {

// A cgroup mount of /proc/self/mountinfo.
struct Mount {
    bool unified = false;
    std::string inner_root;   // the group that the mount shows as its root
    std::string mount_point;  // where it shows it
    std::string options;      // super block options: v1 names its controllers here
};

bool lists(std::string_view commas, std::string_view wanted) {
    return std::ranges::contains(split(commas, ','), wanted);
}

int octal_digit(char c) { return c >= '0' && c <= '7' ? c - '0' : -1; }

// mountinfo writes blanks and backslashes of a path as \040.
std::string unescaped(std::string_view text) {
    std::string plain;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool escape = text[i] == '\\' && i + 3 < text.size() && octal_digit(text[i + 1]) >= 0 &&
                            octal_digit(text[i + 2]) >= 0 && octal_digit(text[i + 3]) >= 0;
        if (!escape) {
            plain += text[i];
            continue;
        }
        plain +=
            static_cast<char>(octal_digit(text[i + 1]) * 64 + octal_digit(text[i + 2]) * 8 + octal_digit(text[i + 3]));
        i += 3;
    }
    return plain;
}

// "32 31 0:29 /root /mount/point rw,relatime shared:1 - cgroup cgroup rw,cpu"; fields before the dash vary in number.
std::optional<Mount> parse_mount(std::string_view line) {
    const size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) return std::nullopt;
    const auto before = split(line.substr(0, dash), ' ');
    const auto after = split(line.substr(dash + 3), ' ');
    if (before.size() < 5 || after.size() < 3) return std::nullopt;
    if (after[0] != "cgroup" && after[0] != "cgroup2") return std::nullopt;
    return Mount{after[0] == "cgroup2", unescaped(before[3]), unescaped(before[4]), std::string(after[2])};
}

std::vector<Mount> cgroup_mounts(const std::string& root) {
    std::vector<Mount> mounts;
    const std::string text = read_text(root + "/proc/self/mountinfo").value_or("");
    for (std::string_view line : split(text, '\n'))
        if (auto mount = parse_mount(line)) mounts.push_back(std::move(*mount));
    return mounts;
}

// Our group in the hierarchy of `mount`, from /proc/self/cgroup: "4:memory:/path" or, for v2, "0::/path".
std::optional<std::string> group_path(const std::string& memberships, const Mount& mount, std::string_view controller) {
    for (std::string_view line : split(memberships, '\n')) {
        const size_t first = line.find(':');
        const size_t second = line.find(':', first + 1);
        if (first == std::string_view::npos || second == std::string_view::npos) continue;
        const std::string_view controllers = line.substr(first + 1, second - first - 1);
        const bool ours = mount.unified ? line.starts_with("0::") : lists(controllers, controller);
        if (ours) return std::string(line.substr(second + 1));
    }
    return std::nullopt;
}

// `path` as seen through the mount. In a container the mount may show only a part of the tree while `path` still counts
// from the host's root; then what is below the shown part remains.
std::string path_below_mount(const std::string& path, const std::string& inner_root) {
    if (inner_root == "/" || !path.starts_with(inner_root)) return path;
    const std::string rest = path.substr(inner_root.size());
    return rest.empty() || rest.starts_with('/') ? rest : path;
}

bool is_folder(const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
}

// From the group's folder up to the mount point. A group that the mount does not show leaves the mount's root, which in
// a container is the container's own group.
std::vector<std::string> folders_upwards(const std::string& mount_point, std::string below) {
    while (below.ends_with('/')) below.pop_back();
    // ".." appears when the group lies outside of our cgroup namespace: nothing to see there.
    if (below.contains("..") || !is_folder(mount_point + below)) below.clear();
    std::vector<std::string> folders;
    for (; !below.empty(); below.resize(below.rfind('/'))) folders.push_back(mount_point + below);
    folders.push_back(mount_point);
    return folders;
}

}  // namespace

std::vector<CgroupChain> cgroup_chains(const std::string& root, std::string_view controller) {
    const std::string memberships = read_text(root + "/proc/self/cgroup").value_or("");
    std::vector<CgroupChain> chains;
    for (const Mount& mount : cgroup_mounts(root)) {
        if (!mount.unified && !lists(mount.options, controller)) continue;
        const auto path = group_path(memberships, mount, controller);
        if (!path) continue;
        const std::string below = path_below_mount(*path, mount.inner_root);
        chains.push_back({mount.unified, folders_upwards(root + mount.mount_point, below)});
    }
    return chains;
}

}  // namespace hypura::hardware
