#include "hardware/disk_info.h"

#include "base/bytes.h"
#include "hardware/text_file.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <format>
#include <string_view>
#include <system_error>

namespace hypura::hardware {
namespace {

namespace fs = std::filesystem;

// One line of /proc/self/mountinfo (proc(5)): "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw".
struct Mount {
    std::string device;  // "98:0"
    std::string point;
    std::string filesystem;
    std::string source;
};

// Blanks and backslashes in paths are written as \040 and the like.
std::string unescape(std::string_view text) {
    std::string plain;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool escaped = text[i] == '\\' && i + 3 < text.size();
        if (!escaped) {
            plain += text[i];
            continue;
        }
        plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
        i += 3;
    }
    return plain;
}

std::optional<Mount> parse_mount(std::string_view line) {
    const auto fields = split(line, ' ');
    const auto dash = std::ranges::find(fields, "-");
    if (fields.size() < 6 || fields.end() - dash < 3) return std::nullopt;
    return Mount{std::string(fields[2]), unescape(fields[4]), std::string(dash[1]), unescape(dash[2])};
}

bool is_below(std::string_view path, std::string_view folder) {
    if (folder == "/") return true;
    return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

// The mount point that is the longest beginning of the path; of equal ones the last, which covers those before it.
Mount mount_of(const std::string& real_path, const std::string& root) {
    Mount found;
    const std::string table = read_text(root + "/proc/self/mountinfo").value_or("");
    for (const std::string_view line : split(table, '\n')) {
        const auto mount = parse_mount(line);
        if (mount && is_below(real_path, mount->point) && mount->point.size() >= found.point.size()) found = *mount;
    }
    return found;
}

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
    return std::ranges::find(names, name) != names.end();
}

bool is_folder(const fs::path& path) {
    std::error_code ignored;
    return fs::is_directory(path, ignored);
}

// Some file systems (btrfs, overlays) have a device number that no block device has; then the mounted device counts.
fs::path block_folder(const Mount& mount, const std::string& root) {
    fs::path by_number = root + "/sys/dev/block/" + mount.device;
    struct stat info{};
    if (is_folder(by_number) || !mount.source.starts_with("/dev/") || ::stat(mount.source.c_str(), &info) != 0)
        return by_number;
    return std::format("{}/sys/dev/block/{}:{}", root, major(info.st_rdev), minor(info.st_rdev));
}

std::string first_line(const fs::path& file) {
    const std::string text = read_text(file.string()).value_or("");
    return text.substr(0, text.find('\n'));
}

// Virtual disks say that they rotate, whatever lies below.
bool is_virtual(std::string_view block_device) {
    return block_device.starts_with("vd") || block_device.starts_with("xvd");
}

// Follows dm and md devices down to a disk; of several members the first speaks for all.
void follow_down(fs::path folder, DiskInfo& info) {
    constexpr int kMostLayers = 16;
    for (int layer = 0; layer < kMostLayers && is_folder(folder); ++layer) {
        std::error_code error;
        folder = fs::canonical(folder, error);
        if (first_line(folder / "dm/uuid").starts_with("CRYPT-")) info.encrypted = true;
        if (fs::exists(folder / "partition", error)) folder = folder.parent_path();
        info.block_device = folder.filename().string();
        const std::string rotational = first_line(folder / "queue/rotational");
        if (!rotational.empty() && !is_virtual(info.block_device)) info.rotational = rotational == "1";
        const fs::directory_iterator members(folder / "slaves", error);
        if (error || members == fs::directory_iterator()) return;
        folder = members->path();
    }
}

}  // namespace

std::string DiskInfo::key() const { return std::format("{} {} {}", filesystem, source, format_bytes(size_bytes)); }

Result<DiskInfo> disk_info(const std::string& path, const std::string& root) {
    std::error_code error;
    const fs::path real_path = fs::canonical(path, error);
    if (error) return std::unexpected(error_from_errno(error.value(), "examine", path));
    const Mount mount = mount_of(real_path.string(), root);
    DiskInfo info{.mount_point = mount.point, .filesystem = mount.filesystem, .source = mount.source};
    struct statvfs sizes{};
    if (::statvfs(path.c_str(), &sizes) != 0) return std::unexpected(error_from_errno(errno, "examine", path));
    info.size_bytes = static_cast<uint64_t>(sizes.f_blocks) * sizes.f_frsize;
    info.free_bytes = static_cast<uint64_t>(sizes.f_bavail) * sizes.f_frsize;
    info.in_memory = one_of(mount.filesystem, {"tmpfs", "ramfs", "devtmpfs"});
    info.network = one_of(mount.filesystem, {"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "afs"});
    if (!info.in_memory && !info.network) follow_down(block_folder(mount, root), info);
    return info;
}

}  // namespace hypura::hardware
