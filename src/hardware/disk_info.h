// What lies under a path: file system, block device and the layers between, as the kernel tells. Nothing is measured
// here (storage/disk_probe.h does that).
#pragma once

#include "base/status.h"

#include <cstdint>
#include <optional>
#include <string>

namespace hypura::hardware {

struct DiskInfo {
    std::string mount_point;
    std::string filesystem;          // "ext4"
    std::string source;              // as mounted: "/dev/vda", "server:/models"; empty where the kernel does not tell
    uint64_t size_bytes = 0;         // of the file system
    uint64_t free_bytes = 0;         // for ordinary users
    std::string block_device;        // the disk at the bottom: "vda", "nvme0n1"; empty: none (network, memory)
    std::optional<bool> rotational;  // empty where there is none, it is virtual, or does not tell
    bool encrypted = false;          // a dm-crypt layer on the way down
    bool in_memory = false;          // tmpfs, ramfs
    bool network = false;            // nfs, cifs, 9p, sshfs…: the disk is somebody else's

    // Tells one disk from another, on one machine: "ext4 /dev/vda 101 GiB".
    std::string key() const;
};

// `root` is prefixed to /proc and /sys paths: tests point it at a folder of recorded files. Errors: kNotFound.
Result<DiskInfo> disk_info(const std::string& path, const std::string& root = "");

}  // namespace hypura::hardware
